"""A small transformer decoder (Vaswani et al. 2017, arXiv:1706.03762; layer norm first, Xiong et al. 2020): causal
self-attention over the words, cross-attention to the grid. Keys and values of earlier words are kept, so that a further
word costs one position."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.caption.decode import Memory, State
from saccade.caption.decoders.base import Decoder
from saccade.errors import SaccadeError
from saccade.recurrent import MultiHead, causal_mask


class TransformerDecoder(Decoder):
    """`layers` blocks of width `dim`. longest: positions there are, START included. dropout: in training."""

    def __init__(
        self,
        vocabulary: int,
        input_dim: int,
        *,
        dim: int = 256,
        heads: int = 4,
        layers: int = 3,
        longest: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.randn(longest, dim) * 0.02)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.project = nn.Sequential(nn.Linear(input_dim, dim), nn.LayerNorm(dim))
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, vocabulary)

    def remember(self, features: Float[Tensor, "n c height width"]) -> Memory:
        places = self.project(features.flatten(2).transpose(1, 2))
        return tuple(part for block in self._blocks() for part in block.look.prepare(places))

    def start(self, memory: Memory) -> State:
        n, heads, _, width = memory[0].shape
        return (memory[0].new_zeros(n, 1, heads, 0, width),) * len(memory)

    def step(
        self, words: Int[Tensor, "n k"], state: State, memory: Memory
    ) -> tuple[Float[Tensor, "n k v"], State, Float[Tensor, "n k p"]]:
        n, k = words.shape
        x = self.embed(words) + self._positions(state[0].shape[3], 1)
        after: list[Tensor] = []
        for i, block in enumerate(self._blocks()):
            inner = block.norm1(x).view(n * k, 1, -1)
            new = block.recall.prepare(inner)
            keys, values = (
                torch.cat([old.flatten(0, 1), part], dim=2)
                for old, part in zip(state[2 * i : 2 * i + 2], new, strict=True)
            )
            read, _ = block.recall(inner, keys, values)
            x = x + read.view(n, k, -1)  # dropout is for training, where `states` runs
            x, weights = block.look_and_think(x, memory[2 * i], memory[2 * i + 1])
            after += [part.view(n, k, *part.shape[1:]) for part in (keys, values)]
        return self.read_out(x), tuple(after), weights.mean(1)

    def states(
        self, words: Int[Tensor, "n t"], lengths: Int[Tensor, " n"], memory: Memory
    ) -> tuple[Float[Tensor, "n t h"], Float[Tensor, "n t p"]]:
        steps = words.shape[1]
        mask = causal_mask(steps, device=words.device)
        x = self.dropout(self.embed(words) + self._positions(0, steps))
        for i, block in enumerate(self._blocks()):
            inner = block.norm1(x)
            x = x + block.dropout(block.recall(inner, *block.recall.prepare(inner), mask=mask)[0])
            x, weights = block.look_and_think(x, memory[2 * i], memory[2 * i + 1])
        valid = torch.arange(steps, device=words.device) < lengths.to(words.device)[:, None]
        return x * valid[..., None], weights.mean(1) * valid[..., None]

    def read_out(self, states: Float[Tensor, "*any h"]) -> Float[Tensor, "*any v"]:
        scores: Tensor = self.output(self.norm(states))
        return scores

    def _blocks(self) -> list["Block"]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _positions(self, first: int, count: int) -> Tensor:
        if first + count > len(self.position):
            raise SaccadeError(
                f"This transformer has {len(self.position)} positions, {first + count} are asked for; decode or train "
                "with shorter sentences."
            )
        return self.position[first : first + count]


class Block(nn.Module):
    """Self-attention, cross-attention and a two-layer network, each on a normalised copy and added."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.recall, self.look = MultiHead(dim, heads), MultiHead(dim, heads)
        self.think = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def look_and_think(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        read, weights = self.look(self.norm2(x), keys, values)
        x = x + self.dropout(read)
        return x + self.dropout(self.think(self.norm3(x))), weights
