"""What every attack runs on: an attack in progress, which asks the network, counts, and keeps the best found.

An attack is a function written against a `Search`; see `gradient_attack` for the pattern.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.balls import ORDERS, Ball, Norm, ball, distance
from saccade.attack.losses import Aim, Loss, margin, slope_by_scores
from saccade.attack.passes import AFTER, Passes
from saccade.attack.question import check_mask, check_network, check_pictures
from saccade.engine.chunks import chunks, rows_at_once
from saccade.engine.guards import differentiable, random_state
from saccade.errors import SaccadeError
from saccade.networks.targets import Target, class_indices

PIXELS = 128 * 32**2
"""In a batch of small pictures: on a CPU the networks made for these are half as fast again as with `FAST` pictures."""

Views = Callable[[Tensor], Sequence[Tensor]]
"""What the network is shown of pictures (m, C, H, W): any number of pictures made of each, differentiably."""


class AttackWarning(UserWarning):
    """The outcome of an attack cannot be taken at its face value."""


@dataclass(frozen=True)
class Result:
    """What an attack found for N pictures.

    adversarial: the pictures that fool the network; the original where none was found or where the network was wrong
    before. success: whether the network does not say the label, or with targets, says the target. norm: the size of
    the change, 0 without one. forwards, backwards: the network's passes made for each picture. loss: the highest loss
    that was seen of each picture.
    """

    adversarial: Float[Tensor, "n c h w"]
    success: Bool[Tensor, " n"]
    norm: Float[Tensor, " n"]
    forwards: Int[Tensor, " n"]
    backwards: Int[Tensor, " n"]
    loss: Float[Tensor, " n"]


@dataclass(frozen=True)
class Look:
    """What a pass forward and backward says of M pictures: scores, loss, and the loss's gradient by the pictures."""

    scores: Float[Tensor, "m classes"]
    loss: Float[Tensor, " m"]
    gradient: Float[Tensor, "m c h w"]


class Search:
    """An attack in progress on N pictures; made by `searching`, which has frozen the network.

    Attacks hold the points they try in tensors of their own, with `rows` (M,), the numbers of the pictures that these
    belong to: M shrinks as pictures are fooled and leave (`kept`). Networks are given full batches whatever M is.

    x: the pictures, in [0, 1]. low, high: the box a picture may move in, of a shape that spreads over `x`; where
    `mask` is False, both are `x`. labels, targets, scores: what is and what is to be said, and what the network said
    of `x`. best: as `Result`.adversarial; success, norm, forwards, backwards, loss: as in `Result`.
    """

    def __init__(
        self,
        network: nn.Module,
        x: Float[Tensor, "n c h w"],
        *,
        norm: Norm,
        loss: Loss,
        mask: Bool[Tensor, "n c h w"] | None,
        batch_size: int | None,
        operation: str,
    ) -> None:
        self.network, self.x, self.measure, self.operation = network, x, norm, operation
        self.loss_function, self.mask = loss, mask
        self.passes = Passes(network, x, operation)
        self.batch = rows_at_once(network, x.to(self.passes.dtype), batch_size, wanted=len(x), pixels=PIXELS)
        zero, one = x.new_zeros(1, 1, 1, 1), x.new_ones(1, 1, 1, 1)
        self.low, self.high = (zero, one) if mask is None else (x.where(~mask, zero), x.where(~mask, one))
        self.labels = self.every_row
        self.targets: Tensor | None = None
        self.scores = x.new_zeros(0, 0)
        self.best, self.success = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.norm, self.loss = x.new_full((len(x),), torch.inf), x.new_full((len(x),), -torch.inf)
        self._size = self.norm.clone()
        self.forwards, self.backwards = torch.zeros_like(self.every_row), torch.zeros_like(self.every_row)
        self.flat = torch.zeros_like(self.success)

    @property
    def every_row(self) -> Int[Tensor, " n"]:
        """The numbers of all pictures."""
        return torch.arange(len(self.x), device=self.x.device)

    def rounding(self, scores: Float[Tensor, "m classes"]) -> Float[Tensor, " m"]:
        """How large a difference of scores must be to count: less may be lost in the network's own precision."""
        return 2 * torch.finfo(self.passes.dtype).eps * scores.abs().amax(1)

    @property
    def active(self) -> Int[Tensor, " m"]:
        """The numbers of the pictures that have not been fooled."""
        return self.every_row[~self.success]

    def aim(self, rows: Int[Tensor, " m"], seed: int = 0) -> Aim:
        """What is wanted of some of the pictures."""
        targets = None if self.targets is None else self.targets[rows]
        return Aim(self.labels[rows], targets, self.scores[rows], seed)

    def ball(self, rows: Int[Tensor, " m"], eps: Float[Tensor, "n 1 1 1"]) -> Ball:
        """Where some of the pictures may go: `eps` from where they were, in the box."""
        return ball(self.measure, self.x[rows], eps[rows], *self.box(rows), self.operation)

    def box(self, rows: Int[Tensor, " m"]) -> tuple[Tensor, Tensor]:
        """The least and the greatest values some of the pictures may have, of a shape that spreads over them."""
        return (self.low, self.high) if self.mask is None else (self.low[rows], self.high[rows])

    def ask(self, z: Float[Tensor, "m c h w"], rows: Int[Tensor, " m"]) -> Float[Tensor, "m classes"]:
        """What the network says of points `z`: one pass forward, and one query."""
        with torch.no_grad():
            said = torch.cat([self.passes.forward(z[part]) for part in chunks(len(z), self.batch)])
        self.forwards[rows] += 1
        return self.passes.said(z, said)

    def look(
        self,
        z: Float[Tensor, "m c h w"],
        rows: Int[Tensor, " m"],
        *,
        loss: Loss | None = None,
        views: Views | None = None,
        pooled: bool = False,
        stop: bool = False,
        seed: int = 0,
    ) -> Look:
        """What the network says of points `z`, and the gradient of the loss: a pass forward and one backward.

        Where the loss is so certain that its slope vanishes, the gradient is that of a margin, see `slope_by_scores`.
        Outside `mask` the gradient is zero.

        Args:
            loss: by default that of the search.
            views: what the network is shown of each point; loss and gradient are then means over the views, and
                `scores` are those of the first. Every view costs a pass.
            pooled: the loss of the views' mean probabilities instead of the mean of their losses.
            stop: the gradient of points that fool the network is not wanted; it may be zero.
            seed: for losses that draw random numbers.
        """
        self.learn(rows)
        found = []
        count = 1 if views is None else len(views(z[:1]))
        for part in chunks(len(z), max(1, self.batch // count)):
            leaf = z[part].detach().requires_grad_()
            shown = [leaf] if views is None else list(views(leaf))
            scores = self.passes.forward(torch.cat(shown) if count > 1 else shown[0])
            self.forwards[rows[part]] += count
            aim = self.aim(rows[part], seed)
            by_view = scores.view(count, len(leaf), -1)
            said = self.passes.said(shown[0], by_view[0])
            if stop and self.fools(said, rows[part]).all():
                value = (loss or self.loss_function)(said, aim)
                found.append(Look(said, value, torch.zeros_like(leaf)))
                continue
            value, direction, length = slope_by_scores(loss or self.loss_function, by_view, aim, pooled=pooled)
            self.backwards[rows[part]] += count
            gradient = self.passes.backward(scores, direction.flatten(0, 1), leaf)
            self.flat[rows[part]] |= ~gradient.flatten(1).any(1)
            gradient = gradient * length.view(-1, 1, 1, 1).to(gradient)
            if self.mask is not None:
                gradient = gradient * self.mask[rows[part]]
            found.append(Look(said, value, gradient))
        return Look(*(torch.cat([getattr(one, key) for one in found]) for key in ("scores", "loss", "gradient")))

    def slopes(
        self,
        z: Float[Tensor, "m c h w"],
        rows: Int[Tensor, " m"],
        classes: Int[Tensor, "m k"] | Float[Tensor, "m k classes"],
    ) -> tuple[Float[Tensor, "m classes"], Float[Tensor, "m k c h w"]]:
        """What the network says of points `z`, and the gradients of K of the scores of each: one pass forward, K back.

        classes: which scores; or weights, for the gradients of K weighted sums of the scores. Outside `mask` the
        gradients are zero.
        """
        self.learn(rows)
        said, found = [], []
        for part in chunks(len(z), self.batch):
            leaf = z[part].detach().requires_grad_()
            scores = self.passes.forward(leaf)
            each = []
            for k in range(classes.shape[1]):
                if classes.is_floating_point():
                    direction = classes[part, k].to(scores)
                else:
                    direction = torch.zeros_like(scores).scatter(1, classes[part, k : k + 1], 1.0)
                each.append(self.passes.backward(scores, direction, leaf, again=k + 1 < classes.shape[1]))
            gradients = torch.stack(each, 1)
            self.flat[rows[part]] |= ~gradients.flatten(1).any(1)
            found.append(gradients if self.mask is None else gradients * self.mask[rows[part], None])
            said.append(self.passes.said(leaf, scores))
        self.forwards[rows] += 1
        self.backwards[rows] += classes.shape[1]
        return torch.cat(said), torch.cat(found)

    def fools(self, scores: Float[Tensor, "m classes"], rows: Int[Tensor, " m"]) -> Bool[Tensor, " m"]:
        """Whether the network is fooled: says another class than the label, or with targets, the target."""
        said = scores.argmax(1)
        return said != self.labels[rows] if self.targets is None else said == self.targets[rows]

    def offer(
        self,
        z: Float[Tensor, "m c h w"],
        rows: Int[Tensor, " m"],
        scores: Float[Tensor, "m classes"],
        *,
        size: Float[Tensor, " m"] | None = None,
    ) -> Bool[Tensor, " m"]:
        """Keep each point that fools the network and is nearer than what was kept; returns whether each fools it.

        A tie of scores, which another batch may break the other way, is not kept in place of a point that is clear.

        scores: what the network said of exactly these points. size: how far they are, if that is not by the norm.
        """
        value = self.loss_function(scores, self.aim(rows)).to(self.loss)
        self.loss[rows] = torch.maximum(self.loss[rows], value)
        fooled = self.fools(scores, rows)
        if fooled.any():
            hits, points = rows[fooled], z[fooled]
            norm = distance(points - self.x[hits], self.measure)
            far = norm if size is None else size[fooled]
            clear = margin(scores[fooled], self.aim(hits)) > self.rounding(scores[fooled])
            nearer = (far < self._size[hits]) & (clear | ~self.success[hits])
            hits = hits[nearer]
            self.best[hits], self.norm[hits], self._size[hits] = points[nearer], norm[nearer], far[nearer]
            self.success[hits] = True
        return fooled

    def learn(self, rows: Int[Tensor, " m"]) -> None:
        """Learn the network once a picture has been asked about `AFTER` times.

        Not for attacks whose queries are counted: where two scores are close, a learnt network is asked again.
        """
        if self.passes.learns and int(self.forwards[rows].max()) >= AFTER:
            self.passes.learn(self.x[:2], self.scores[:2])

    def result(self) -> Result:
        """What was found; warns (`AttackWarning`) if gradients were zero where the attack failed."""
        masked = (self.flat & ~self.success).nonzero()[:, 0].tolist()
        if masked:
            which = ", ".join(str(i) for i in masked[:8])
            warnings.warn(
                f"{self.operation}: the gradient was zero everywhere for {len(masked)} pictures that were not fooled "
                f"({which}), so their survival says nothing about robustness; the network may mask its gradients.",
                AttackWarning,
                stacklevel=4,
            )
        norm = self.norm.where(self.success, 0)
        return Result(self.best, self.success, norm, self.forwards, self.backwards, self.loss)


def kept(on: Bool[Tensor, " m"], *states: Any) -> list[Any]:
    """The rows of each state (a tensor, a `Ball`, or None) where `on` is True; the states themselves if that is all."""
    return list(states) if bool(on.all()) else [None if state is None else state[on] for state in states]


@contextmanager
def searching(
    network: nn.Module,
    pictures: Tensor,
    labels: Target,
    *,
    operation: str,
    targets: Target | None = None,
    norm: Norm = "linf",
    loss: Loss = margin,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    random: bool = False,
    strict: bool = True,
) -> Iterator[Search]:
    """Check all that is given, freeze the network, ask it about the pictures, and keep those that fool it already.

    The global random state and the network are put back afterwards, also after an error. The network is run twice on
    two pictures to see whether it is deterministic.

    Args:
        network: pictures (N, C, H, W) in [0, 1] to class scores (N, classes), before any softmax; in eval mode.
        pictures: float32 or float64, on the device of the network; the network is run in its own precision.
        labels: the true class of each picture, as `saccade.networks.targets.Target`.
        operation: what is being done, for error messages, as in "attack with PGD".
        targets: the class that is to be said, one for all or one for each; None for any but the label.
        norm: in which changes are measured.
        loss: what `Search.look` and `Result.loss` are about, unless told otherwise.
        mask: the region that may be touched, see `check_mask`.
        batch_size: the most pictures at once; by default as many as are fast and fit into memory.
        random: the attack is made for networks that are not deterministic; there is no warning of it.
        strict: False takes pictures outside [0, 1], probabilities, and networks in train mode, run in eval mode.

    Raises:
        SaccadeError: for whatever cannot be attacked, in one sentence; also in the middle.
    """
    if norm not in ORDERS:
        raise SaccadeError(f"Could not {operation}: norm is {norm!r}, expected one of {', '.join(ORDERS)}.")
    x = check_pictures(pictures, operation) if strict else pictures.detach()
    check_network(network, x, operation, train_mode=not strict)
    with differentiable(network), random_state():
        x = x.clone(memory_format=torch.contiguous_format)  # outside inference mode, if it was made in it
        region = check_mask(mask, x, operation)
        search = Search(network, x, norm=norm, loss=loss, mask=region, batch_size=batch_size, operation=operation)
        rows = search.every_row
        search.scores = scores = search.ask(x, rows)
        if strict and (scores >= 0).all() and (scores.sum(1) - 1).abs().max() < 1e-3:
            raise SaccadeError(
                f"Could not {operation}: the network gives probabilities, of which gradients vanish; expected scores "
                "before the softmax. Leave its last softmax out."
            )
        classes = scores.shape[1]
        search.labels = class_indices(network, labels, count=len(x), classes=classes).to(x.device)
        if targets is not None:
            search.targets = class_indices(network, targets, count=len(x), classes=classes).to(x.device)
        search.passes.learns &= strict and not random
        if strict and not random:
            _warn_of_chance(search)
        search.offer(x, rows, scores)
        yield search


def _warn_of_chance(search: Search) -> None:
    """Warn if two passes over the same pictures differ."""
    with torch.no_grad():
        first, second = (search.passes.forward(search.x[:2]) for _ in range(2))
    if (first - second).abs().max() > 1e-3 * first.abs().max():
        search.passes.learns = False
        warnings.warn(
            f"{search.operation}: the network says different things of the same picture, so what fools it once may not "
            "fool it again. Attack its mean with EOT-PGD, and judge by several passes.",
            AttackWarning,
            stacklevel=4,
        )
