"""Words, numbers and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.caption.text import END, START, UNK, Vocabulary, tokenise
from saccade.errors import SaccadeError


def test_tokens():
    assert tokenise("A man's dog , black-and-white, runs .") == ["a", "man's", "dog", "black", "and", "white", "runs"]
    assert tokenise("Un garçon à l’école; ' \" _") == ["un", "garçon", "à", "l'école"]
    assert tokenise(" .,! ") == []


@given(st.text())
def test_tokenising_twice_changes_nothing(text):
    assert tokenise(" ".join(tokenise(text))) == tokenise(text)


def test_a_vocabulary_counts_and_orders():
    vocabulary = Vocabulary.build(["a dog, a cat", "a dog", "bird cat"], minimum=2)
    assert vocabulary.words[4:] == ("a", "cat", "dog")
    assert vocabulary.encode("A bird and a cat!") == [START, 4, UNK, UNK, 4, 5, END]
    assert vocabulary.encode("a dog a dog", longest=2) == [START, 4, 6, END]
    assert vocabulary.decode([START, 4, UNK, 5, END, 6, 6]) == "a <UNK> cat"


def test_impossible_vocabularies_are_refused():
    with pytest.raises(SaccadeError, match="no word occurs 3 times"):
        Vocabulary.build(["a b c"], minimum=3)
    with pytest.raises(SaccadeError, match="starts with <NULL>"):
        Vocabulary(("a", "b"))
    with pytest.raises(SaccadeError, match="names each word once"):
        Vocabulary(("<NULL>", "<START>", "<END>", "<UNK>", "a", "a"))
