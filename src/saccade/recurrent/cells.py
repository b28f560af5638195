"""The recurrent functions as modules that hold their weights."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.errors import SaccadeError
from saccade.recurrent.attention_lstm import attention_lstm, attention_lstm_step
from saccade.recurrent.lstm import lstm, lstm_step
from saccade.recurrent.rnn import rnn, rnn_step

Init = Literal["course", "uniform", "orthogonal"]
"""How recurrent weights start. "course": input weights N(0, 1/D), state weights N(0, 1/H), biases 0. "uniform": all
within 1/sqrt(H), as `torch.nn.LSTM`. "orthogonal": input weights Xavier-uniform, state weights orthogonal for each
gate, biases 0 but 1 for the forget gate (Saxe et al. 2014; Jozefowicz et al. 2015)."""

Lengths = Sequence[int] | Tensor | None


class WordEmbedding(nn.Module):
    """A row of `weight` (V, D) for each word: int (N, T) -> (N, T, D). Starts from N(0, 1/V)."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocabulary, dim) / vocabulary**0.5)

    def forward(self, words: Int[Tensor, "n ..."]) -> Float[Tensor, "n ... d"]:
        vectors: Tensor = F.embedding(words, self.weight)
        return vectors


class _Cell(nn.Module):
    """Input width, hidden width, and the weights wx (D, gates H), wh (H, gates H), b (gates H)."""

    gates = 1

    def __init__(self, input_dim: int, hidden_dim: int, *, init: Init = "course") -> None:
        super().__init__()
        if init not in ("course", "uniform", "orthogonal"):
            raise SaccadeError(f"{type(self).__name__}: init must be course, uniform or orthogonal, got {init!r}.")
        self.input_dim, self.hidden_dim, self.init = input_dim, hidden_dim, init
        self.wx = nn.Parameter(self._weight(input_dim, recurrent=False))
        self.wh = nn.Parameter(self._weight(hidden_dim, recurrent=True))
        self.b = nn.Parameter(torch.zeros(self.gates * hidden_dim))
        with torch.no_grad():
            if init == "uniform":
                self.b.uniform_(-(hidden_dim**-0.5), hidden_dim**-0.5)
            elif init == "orthogonal" and self.gates == 4:
                self.b[hidden_dim : 2 * hidden_dim] = 1

    def _weight(self, rows: int, *, recurrent: bool) -> Tensor:
        width = self.gates * self.hidden_dim
        if self.init == "course":
            normal: Tensor = torch.randn(rows, width) / rows**0.5
            return normal
        if self.init == "uniform":
            return torch.empty(rows, width).uniform_(-(self.hidden_dim**-0.5), self.hidden_dim**-0.5)
        start = nn.init.orthogonal_ if recurrent else nn.init.xavier_uniform_
        return torch.cat([start(torch.empty(rows, self.hidden_dim)) for _ in range(self.gates)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.input_dim}, {self.hidden_dim}"


class RNN(_Cell):
    """A vanilla recurrent layer; see `saccade.recurrent.rnn`."""

    def forward(
        self,
        x: Float[Tensor, "n t d"],
        h0: Float[Tensor, "n hidden"],
        *,
        lengths: Lengths = None,
        truncate: int | None = None,
        clip: float | None = None,
    ) -> Float[Tensor, "n t hidden"]:
        """Hidden states (N, T, H)."""
        return rnn(x, h0, self.wx, self.wh, self.b, lengths=lengths, truncate=truncate, clip=clip)

    def step(self, x: Float[Tensor, "n d"], h: Float[Tensor, "n hidden"]) -> Float[Tensor, "n hidden"]:
        """The next hidden state."""
        return rnn_step(x, h, self.wx, self.wh, self.b)


class LSTM(_Cell):
    """An LSTM layer; see `saccade.recurrent.lstm`."""

    gates = 4

    def forward(
        self,
        x: Float[Tensor, "n t d"],
        h0: Float[Tensor, "n hidden"],
        c0: Float[Tensor, "n hidden"] | None = None,
        *,
        lengths: Lengths = None,
        truncate: int | None = None,
        clip: float | None = None,
    ) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "n t hidden"]]:
        """Hidden and cell states (N, T, H)."""
        return lstm(x, h0, self.wx, self.wh, self.b, c0=c0, lengths=lengths, truncate=truncate, clip=clip)

    def step(
        self, x: Float[Tensor, "n d"], h: Float[Tensor, "n hidden"], c: Float[Tensor, "n hidden"]
    ) -> tuple[Float[Tensor, "n hidden"], Float[Tensor, "n hidden"]]:
        """The next hidden and cell state."""
        return lstm_step(x, h, c, self.wx, self.wh, self.b)


class AttentionLSTM(_Cell):
    """An LSTM layer that reads a grid at each step; see `saccade.recurrent.attention_lstm`."""

    gates = 4

    def __init__(self, input_dim: int, hidden_dim: int, *, init: Init = "course") -> None:
        super().__init__(input_dim, hidden_dim, init=init)
        self.wattn = nn.Parameter(self._weight(hidden_dim, recurrent=True))

    def forward(
        self,
        x: Float[Tensor, "n t d"],
        grid: Float[Tensor, "n hidden height width"],
        h0: Float[Tensor, "n hidden"] | None = None,
        c0: Float[Tensor, "n hidden"] | None = None,
        *,
        lengths: Lengths = None,
        truncate: int | None = None,
        clip: float | None = None,
    ) -> tuple[Float[Tensor, "n t hidden"], Float[Tensor, "n t hidden"], Float[Tensor, "n t height width"]]:
        """Hidden states, cell states (N, T, H) and attention weights (N, T, h, w)."""
        weights = self.wx, self.wh, self.wattn, self.b
        return attention_lstm(x, grid, *weights, h0=h0, c0=c0, lengths=lengths, truncate=truncate, clip=clip)

    def step(
        self,
        x: Float[Tensor, "n d"],
        h: Float[Tensor, "n hidden"],
        c: Float[Tensor, "n hidden"],
        grid: Float[Tensor, "n hidden height width"],
    ) -> tuple[Float[Tensor, "n hidden"], Float[Tensor, "n hidden"], Float[Tensor, "n height width"]]:
        """The next hidden and cell state, and the weights read from the hidden state before."""
        return attention_lstm_step(x, h, c, grid, self.wx, self.wh, self.wattn, self.b)


def from_torch(layer: nn.RNN | nn.LSTM) -> RNN | LSTM:
    """Our layer with the weights of PyTorch's.

    PyTorch orders an LSTM's gates i, f, g, o and keeps two biases, which are added. Raises `SaccadeError` for more than
    one layer or direction, a projection, or a vanilla RNN with ReLU.
    """
    simple = layer.num_layers == 1 and not layer.bidirectional and not layer.proj_size
    if not simple or getattr(layer, "nonlinearity", "tanh") != "tanh":
        raise SaccadeError(f"from_torch: one layer, one direction, tanh and no projection are expected, got {layer}.")
    ours = (LSTM if isinstance(layer, nn.LSTM) else RNN)(layer.input_size, layer.hidden_size)
    theirs = dict(layer.named_parameters())
    ours.to(theirs["weight_ih_l0"])
    with torch.no_grad():
        ours.wx.copy_(_reordered(theirs["weight_ih_l0"], ours.gates).T)
        ours.wh.copy_(_reordered(theirs["weight_hh_l0"], ours.gates).T)
        if layer.bias:
            ours.b.copy_(_reordered(theirs["bias_ih_l0"] + theirs["bias_hh_l0"], ours.gates))
    return ours


def to_torch(layer: RNN | LSTM) -> nn.RNN | nn.LSTM:
    """PyTorch's layer (batch first) with the weights of ours; the second of its biases is zero."""
    theirs = (nn.LSTM if isinstance(layer, LSTM) else nn.RNN)(layer.input_dim, layer.hidden_dim, batch_first=True)
    theirs.to(layer.wx)
    rows = {"weight_ih_l0": layer.wx.T, "weight_hh_l0": layer.wh.T, "bias_ih_l0": layer.b}
    state = {name: _reordered(weight.detach(), layer.gates) for name, weight in rows.items()}
    theirs.load_state_dict(state | {"bias_hh_l0": torch.zeros_like(layer.b)})
    return theirs


def _reordered(weight: Tensor, gates: int) -> Tensor:
    """Rows by gate i, f, o, g brought to i, f, g, o or back; a vanilla layer's as they are."""
    if gates == 1:
        return weight
    i, f, third, fourth = weight.chunk(4)
    return torch.cat([i, f, fourth, third])
