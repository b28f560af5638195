"""Show, Attend and Tell (Xu et al. 2015, arXiv:1502.03044), soft attention, in the form of the paper and its code.

At each word: additive scores e_p = v . tanh(Wa a_p + Wh h) from the hidden state before, weights alpha = softmax(e),
the context z = beta sum_p alpha_p a_p with a scalar gate beta = sigmoid(w h); an LSTM on [word; z]; scores of the next
word from a deep output layer, W tanh(E word + Lh h + Lz z). Its states start from two small networks of the mean
feature.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.caption.decode import Memory, State
from saccade.caption.decoders.base import Decoder
from saccade.recurrent import WordEmbedding
from saccade.recurrent.additive_lstm import additive_lstm
from saccade.recurrent.lstm import gated
from saccade.recurrent.packing import packing


class ShowAttendTell(Decoder):
    """The decoder of the paper. dropout: of the deep output, in training.

    positions: give each place its coordinates too. The features of a convolutional network look the same wherever they
    are, and a mean of them does not say from where: without this the decoder cannot tell left from right. Not in the
    paper.

    What depends on the picture alone (the projected places) is computed once a picture, what depends on the word alone
    (its share of the gates) for all words at once, and all uses of the hidden state are one product a step.
    """

    def __init__(
        self,
        vocabulary: int,
        input_dim: int,
        *,
        wordvec_dim: int = 256,
        hidden_dim: int = 512,
        attention_dim: int = 256,
        dropout: float = 0.5,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.positions = positions
        input_dim += 6 if positions else 0
        self.hidden_dim, self.attention_dim = hidden_dim, attention_dim
        self.embed = WordEmbedding(vocabulary, wordvec_dim)
        self.init_h, self.init_c = nn.Linear(input_dim, hidden_dim), nn.Linear(input_dim, hidden_dim)
        self.place = nn.Linear(input_dim, attention_dim)  # Wa
        self.v = nn.Parameter(torch.randn(attention_dim) / attention_dim**0.5)
        self.word = nn.Linear(wordvec_dim, 4 * hidden_dim)
        # of the hidden state: attention query, gate of the context, gates of the LSTM
        self.hidden = nn.Linear(hidden_dim, attention_dim + 1 + 4 * hidden_dim)
        self.context = nn.Linear(input_dim, 4 * hidden_dim, bias=False)
        self.deep = nn.Linear(hidden_dim + input_dim, wordvec_dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(wordvec_dim, vocabulary)

    def remember(self, features: Float[Tensor, "n c height width"]) -> Memory:
        if self.positions:
            where = _coordinates(features).to(features.dtype)
            features = torch.cat([features, where.expand(len(features), -1, -1, -1)], dim=1)
        places = features.flatten(2).transpose(1, 2)
        keys = self.place(places)
        return places.to(keys.dtype), keys  # under autocast, cast once and not at every word

    def start(self, memory: Memory) -> State:
        mean = memory[0].mean(dim=1, keepdim=True)
        return torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))

    def step(
        self, words: Int[Tensor, "n k"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "n k v"], State, Float[Tensor, "n k p"]]:
        vectors = self.embed(words)
        h, c, context, weights = self._advance(self.word(vectors), *state, *memory)
        return self.read_out(torch.cat([vectors, h, context], dim=2)), (h, c), weights

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], Float[Tensor, "n t p"]]:
        plan = packing(words.shape[0], words.shape[1], lengths, words.device)
        vectors = plan.pack(self.embed(words))
        gates = self.word(vectors)
        places, keys = (plan.sort(part) for part in memory)
        h, c = (state[:, 0] for state in self.start((places,)))
        hidden, contexts, looks = additive_lstm(
            gates, places, keys, h, c, self.hidden.weight, self.hidden.bias, self.context.weight, self.v, plan
        )
        return plan.unpack(torch.cat([vectors, hidden, contexts.to(hidden.dtype)], dim=1)), plan.unpack(looks)

    def read_out(self, states: Float[Tensor, "*any h"]) -> Float[Tensor, "*any v"]:
        width = self.embed.weight.shape[1]
        deep = torch.tanh(states[..., :width] + self.deep(states[..., width:]))
        scores: Tensor = self.output(self.dropout(deep))
        return scores

    def _advance(
        self, word: Tensor, h: Tensor, c: Tensor, places: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Words' share of the gates (N, K, 4H), states (N, K, H) -> next states, context, weights."""
        of_h = self.hidden(h)
        query, gate = of_h[..., : self.attention_dim], of_h[..., self.attention_dim : self.attention_dim + 1]
        kind = self.v.dtype  # tanh in bfloat16 takes five times as long as in float32 on a CPU
        scores = torch.tanh(keys[:, None].to(kind) + query[:, :, None].to(kind)) @ self.v  # (N, K, P)
        weights = torch.softmax(scores, dim=2)
        context = gate.sigmoid() * (weights.to(places.dtype) @ places)
        a = word + of_h[..., self.attention_dim + 1 :] + self.context(context)
        h, c = (part.view_as(h) for part in gated(a.flatten(0, 1), c.flatten(0, 1)))
        return h, c, context, weights


def _coordinates(features: Float[Tensor, "n c height width"]) -> Float[Tensor, "1 6 height width"]:
    """Across and down, each as u in (-1, 1), sin(pi u), cos(pi u): steep everywhere, and different at the borders."""
    h, w = features.shape[2:]
    lines = [(torch.arange(side, device=features.device) + 0.5) * 2 / side - 1 for side in (h, w)]
    down, across = torch.meshgrid(*lines, indexing="ij")
    waves = [wave for u in (across, down) for wave in (u, (torch.pi * u).sin(), (torch.pi * u).cos())]
    return torch.stack(waves)[None]


def doubly_stochastic(weights: Float[Tensor, "n t p"]) -> Float[Tensor, ""]:
    """The paper's term that wants every place to be looked at once in all: sum over places of (1 - sum over words of
    alpha)^2, mean over sentences. (Its code sums over sentences and takes the mean over places.)"""
    return F.mse_loss(weights.sum(1), torch.ones_like(weights[:, 0]), reduction="sum") / len(weights)
