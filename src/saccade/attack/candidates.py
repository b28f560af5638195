"""Several points of each picture at once, for attacks that ask the network and never take a gradient."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.attack.engine import PIXELS, Search
from saccade.engine.chunks import chunks, rows_at_once


def widen(search: Search, batch_size: int | None) -> None:
    """Let the batches of a search be full also where there are fewer pictures than points to ask about."""
    search.batch = rows_at_once(search.network, search.x.to(search.passes.dtype), batch_size, pixels=PIXELS)


def portions(search: Search, rows: Int[Tensor, " m"], count: int) -> Iterator[slice]:
    """`count` candidates of each of some pictures in slices, each about a batch of the network."""
    return chunks(count, max(1, search.batch // len(rows)))


def ask_all(search: Search, z: Float[Tensor, "m k c h w"], rows: Int[Tensor, " m"]) -> Float[Tensor, "m k classes"]:
    """What the network says of K points of each of M pictures, in full batches: K passes forward of each."""
    count = z.shape[1]
    scores = search.ask(z.flatten(0, 1), rows.repeat_interleave(count))
    search.forwards[rows] += count - 1  # `ask` counts a picture once
    return scores.view(len(z), count, -1)


def values_of(search: Search, scores: Float[Tensor, "m k classes"], rows: Int[Tensor, " m"]) -> Float[Tensor, "m k"]:
    """The loss of the search at each of K points of M pictures."""
    count = scores.shape[1]
    flat = search.loss_function(scores.flatten(0, 1), search.aim(rows.repeat_interleave(count)))
    return flat.view(len(scores), count)


def offer_best(
    search: Search, rows: Int[Tensor, " m"], count: int, make: Callable[[slice], Tensor]
) -> tuple[Float[Tensor, "m c h w"], Float[Tensor, "m count"], Bool[Tensor, " m"]]:
    """Ask about `count` candidates of each of M pictures, and offer that of the highest loss.

    make: the candidates of a slice of their numbers, (M, K, C, H, W), in this order; they are put into the box.

    Returns the best candidates, the losses of all, and which of the best fool the network.
    """
    low, high = (edge if len(edge) == 1 else edge[:, None] for edge in search.box(rows))
    values, points, said = [], [], []
    for part in portions(search, rows, count):
        z = torch.minimum(torch.maximum(make(part), low), high)
        scores = ask_all(search, z, rows)
        values.append(values_of(search, scores, rows))
        which = values[-1].argmax(1)
        points.append(pick(z, which))
        said.append(pick(scores, which))
    first = torch.stack([value.amax(1) for value in values], 1).argmax(1)
    best = pick(torch.stack(points, 1), first)
    fooled = search.offer(best, rows, pick(torch.stack(said, 1), first))
    return best, torch.cat(values, 1), fooled


def fooled_by(search: Search, scores: Float[Tensor, "m k classes"], rows: Int[Tensor, " m"]) -> Tensor:
    """Which of K points of M pictures fool the network, (M, K): all that a decision-based attack is told."""
    count = scores.shape[1]
    return search.fools(scores.flatten(0, 1), rows.repeat_interleave(count)).view(len(scores), count)


def pick(states: Tensor, which: Int[Tensor, " m"]) -> Tensor:
    """One of the K entries of each row of `states` (M, K, ...)."""
    return states[torch.arange(len(which), device=which.device), which]
