"""The course's three captioning networks (EECS 498-007, assignment 4, part 2): a vanilla RNN or an LSTM that starts
from the picture's pooled features, and an LSTM that looks at the grid of features before each word."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.caption.decode import Memory, State
from saccade.caption.decoders.base import Decoder
from saccade.recurrent import LSTM, RNN, AttentionLSTM, WordEmbedding, attend
from saccade.recurrent.lstm import gated


class _Course(Decoder):
    """Affine projection of the features to H, word vectors (V, W), a recurrent cell, affine scores (H, V)."""

    cell: RNN | LSTM | AttentionLSTM

    def __init__(self, vocabulary: int, input_dim: int, *, wordvec_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__()
        self.project = nn.Linear(input_dim, hidden_dim)
        self.embed = WordEmbedding(vocabulary, wordvec_dim)
        self.output = nn.Linear(hidden_dim, vocabulary)

    def remember(self, features: Float[Tensor, "n c"]) -> Memory:
        return (self.project(features).to(features.dtype),)  # the recurrent functions run in full precision

    def read_out(self, states: Float[Tensor, "*any h"]) -> Float[Tensor, "*any v"]:
        scores: Tensor = self.output(states)
        return scores


class RNNDecoder(_Course):
    """A vanilla RNN whose first hidden state is the projected picture."""

    wants: ClassVar[Literal["pooled", "grid"]] = "pooled"

    def __init__(self, vocabulary: int, input_dim: int, *, wordvec_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__(vocabulary, input_dim, wordvec_dim=wordvec_dim, hidden_dim=hidden_dim)
        self.cell: RNN = RNN(wordvec_dim, hidden_dim)

    def start(self, memory: Memory) -> State:
        return (memory[0][:, None],)

    def step(
        self,
        words: Int[Tensor, "n k"],
        state: State,
        memory: Memory,  # noqa: ARG002 - all that is known of the picture is in the state
    ) -> tuple[Float[Tensor, "n k v"], State, None]:
        h = self.cell.step(self.embed(words).flatten(0, 1), state[0].flatten(0, 1)).view(*words.shape, -1)
        return self.read_out(h), (h,), None

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], None]:
        return self.cell(self.embed(words), memory[0], lengths=lengths), None


class LSTMDecoder(_Course):
    """An LSTM whose first hidden state is the projected picture; its first cell state is zero."""

    wants: ClassVar[Literal["pooled", "grid"]] = "pooled"

    def __init__(self, vocabulary: int, input_dim: int, *, wordvec_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__(vocabulary, input_dim, wordvec_dim=wordvec_dim, hidden_dim=hidden_dim)
        self.cell: LSTM = LSTM(wordvec_dim, hidden_dim)

    def start(self, memory: Memory) -> State:
        return memory[0][:, None], torch.zeros_like(memory[0][:, None])

    def step(
        self,
        words: Int[Tensor, "n k"],
        state: State,
        memory: Memory,  # noqa: ARG002 - all that is known of the picture is in the state
    ) -> tuple[Float[Tensor, "n k v"], State, None]:
        h, c = self.cell.step(self.embed(words).flatten(0, 1), *(part.flatten(0, 1) for part in state))
        h, c = h.view(*words.shape, -1), c.view(*words.shape, -1)
        return self.read_out(h), (h, c), None

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], None]:
        return self.cell(self.embed(words), memory[0], lengths=lengths)[0], None


class AttentionDecoder(_Course):
    """An LSTM that reads the projected grid, by scaled dot products with its hidden state, before each word; both its
    states start as the grid's mean."""

    def __init__(self, vocabulary: int, input_dim: int, *, wordvec_dim: int = 256, hidden_dim: int = 512) -> None:
        super().__init__(vocabulary, input_dim, wordvec_dim=wordvec_dim, hidden_dim=hidden_dim)
        self.cell: AttentionLSTM = AttentionLSTM(wordvec_dim, hidden_dim)

    def remember(self, features: Float[Tensor, "n c height width"]) -> Memory:
        return (self.project(features.flatten(2).transpose(1, 2)).to(features.dtype),)  # (N, P, H)

    def start(self, memory: Memory) -> State:
        mean = memory[0].mean(dim=1, keepdim=True)
        return mean, mean

    def step(
        self, words: Int[Tensor, "n k"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "n k v"], State, Float[Tensor, "n k p"]]:
        (h, c), (places,), cell = state, memory, self.cell
        reading = attend(h @ places.transpose(1, 2) / h.shape[2] ** 0.5, places)
        a = self.embed(words) @ cell.wx + h @ cell.wh + reading.value @ cell.wattn + cell.b
        h, c = (part.view(*words.shape, -1) for part in gated(a.flatten(0, 1), c.flatten(0, 1)))
        return self.read_out(h), (h, c), reading.weights

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], Float[Tensor, "n t p"]]:
        grid = memory[0].transpose(1, 2)[..., None]  # (N, H, P, 1)
        h, _, weights = self.cell(self.embed(words), grid, lengths=lengths)
        return h, weights.flatten(2)
