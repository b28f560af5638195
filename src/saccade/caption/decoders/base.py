"""What every decoder is: a network that, given a picture's features and the words so far, scores the next word."""

from typing import ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.caption.decode import Memory, State


class Decoder(nn.Module):
    """The base of the decoders. `wants` says which features it reads: "pooled" (N, C) or a "grid" (N, C, h, w).

    One set of weights, two ways through: `states` for whole sentences whose words are known (training), `step` for one
    word of K hypotheses for each picture (decoding, see `saccade.caption.decode`). Both give the same scores.
    """

    wants: ClassVar[Literal["pooled", "grid"]] = "grid"

    def remember(self, features: Tensor) -> Memory:
        """What is needed of the features of each picture, computed once; every tensor (N, ...)."""
        raise NotImplementedError

    def start(self, memory: Memory) -> State:
        """The state before the first word; every tensor (N, 1, ...)."""
        raise NotImplementedError

    def step(
        self, words: Int[Tensor, "n k"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "n k v"], State, Float[Tensor, "n k p"] | None]:
        """Scores of the next word, the state after reading `words`, and the attention to each place, if any."""
        raise NotImplementedError

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], Float[Tensor, "n t p"] | None]:
        """What `read_out` turns into scores after each of `words`, and the attention; zeros behind each length."""
        raise NotImplementedError

    def read_out(self, states: Float[Tensor, "*any h"]) -> Float[Tensor, "*any v"]:
        """Scores of the next word."""
        raise NotImplementedError
