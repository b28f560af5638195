"""From sentences to word numbers and back."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saccade.errors import SaccadeError

NULL, START, END, UNK = 0, 1, 2, 3
SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")
TOKENISER = "lower case, runs of letters, digits and apostrophes"
_WORD = re.compile(r"(?:[^\W_]|')+")


def tokenise(sentence: str) -> list[str]:
    """The words of a sentence: lower case, runs of letters, digits and apostrophes; punctuation is dropped."""
    return [word for word in _WORD.findall(sentence.lower().replace("’", "'")) if word.strip("'")]


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner knows, by number: first NULL, START, END and UNK, then by falling frequency."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL or len(set(self.words)) != len(self.words):
            raise SaccadeError(f"A vocabulary starts with {', '.join(SPECIAL)} and names each word once.")
        object.__setattr__(self, "_numbers", {word: number for number, word in enumerate(self.words)})

    @classmethod
    def build(cls, sentences: Iterable[str], *, minimum: int = 5) -> "Vocabulary":
        """The words that occur at least `minimum` times in `sentences`, which are to be those of the training split."""
        counts = Counter(word for sentence in sentences for word in tokenise(sentence))
        kept = sorted((word for word, count in counts.items() if count >= minimum), key=lambda w: (-counts[w], w))
        if not kept:
            raise SaccadeError(f"Building a vocabulary: no word occurs {minimum} times; lower `minimum`.")
        return cls(SPECIAL + tuple(kept))

    def __len__(self) -> int:
        return len(self.words)

    def number(self, word: str) -> int:
        """The number of a word; UNK for one that is not known."""
        numbers: dict[str, int] = self._numbers  # type: ignore[attr-defined]
        return numbers.get(word, UNK)

    def encode(self, sentence: str, *, longest: int | None = None) -> list[int]:
        """START, the numbers of the words (at most `longest` of them), END."""
        return [START, *(self.number(word) for word in tokenise(sentence)[:longest]), END]

    def decode(self, numbers: Sequence[int]) -> str:
        """The words up to the first END, joined by blanks; START and NULL are left out."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number not in (START, NULL):
                words.append(self.words[number])
        return " ".join(words)
