"""Train a style network: after it, one pass does what an optimisation of hundreds of steps did."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.guards import evaluating
from saccade.engine.precision import Choice, Precision, choose_precision
from saccade.engine.seeding import generator, mix
from saccade.errors import SaccadeError
from saccade.networks.targets import check_input
from saccade.pictures import resize
from saccade.style.eye import Eye, Maps
from saccade.style.fast.network import FastStyle
from saccade.style.fast.photographs import Photographs, Source
from saccade.style.objective import variation
from saccade.style.preset import Preset
from saccade.style.statistics import Gram, Summary

FAST = Preset(
    content_relative=True,
    statistic=Gram(divide="hw", relative=True),
    style_weights=(0.2,) * 5,
    content_weights=(1.0,),
    tv="mean-squares",
    padding="replicate",
)
"""The objective unless told otherwise: distances relative to the target, so that it means the same to any network."""


@dataclass(frozen=True)
class FastRecipe:
    """How a style network is trained.

    steps, batch_size, size: batches of crops of `size` pixels. style_size: shorter side of the styles, which decides
    how large their strokes come out. rate: of Adam, reached in 2 % of the steps, then brought to zero as a half cosine.
    coarse: weight of the style losses of the result at half and at a quarter of its size, beside those at its own.
    There layers see what is too large for them otherwise: swirls and stars, not only strokes.
    stability: weight of the mean squared difference that a small shift of the photograph and noise of deviation
    `noise` make to the result, shift aside; 0 saves a third of the time.
    """

    steps: int = 2000
    batch_size: int = 2
    size: int = 256
    style_size: int = 384
    rate: float = 3e-3
    coarse: float = 0.0
    stability: float = 0.0
    noise: float = 0.03
    shift: int = 8
    seed: int = 0
    precision: Choice = "auto"

    def rate_at(self, step: int) -> float:
        """The learning rate of step number `step`, from 0."""
        warm = min(1.0, (step + 1) / max(1, round(0.02 * self.steps)))
        return self.rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Row:
    """Mean losses since the row before, and the validation pictures restyled if there are any."""

    step: int
    steps: int
    content: float
    style: float
    variation: float
    stability: float
    seconds: float
    pictures: Float[Tensor, "n 3 h w"] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, without the pictures."""
        return {key: value for key, value in asdict(self).items() if key != "pictures"}


Callback = Callable[[Row], None]


class Training:
    """A run under way: network, optimiser, and where it stands."""

    def __init__(
        self,
        photographs: Photographs,
        styles: Sequence[Tensor],
        network: nn.Module,
        preset: Preset,
        recipe: FastRecipe,
        fast: FastStyle,
        device: torch.device,
    ) -> None:
        self.photographs, self.recipe, self.fast, self.device = photographs, recipe, fast, device
        self.precision = choose_precision(device, recipe.precision)
        self._look(network, preset)
        self.weights = {1: 1.0} | ({2: recipe.coarse, 4: recipe.coarse} if recipe.coarse else {})
        self.targets: list[dict[int, Mapping[str, Sequence[Summary]]]] = [
            {scale: self.eye.style_of(_smaller(style.to(device), scale)) for scale in self.weights} for style in styles
        ]
        self.optimiser = torch.optim.Adam(fast.parameters(), lr=recipe.rate)
        self.step, self.sums, self.count = 0, torch.zeros(4, device=device), 0
        self.seconds, self._clock = 0.0, time.monotonic()

    def _look(self, network: nn.Module, preset: Preset) -> None:
        """Set up the eye, and one that looks at photographs no deeper than their content needs."""
        dtype = torch.bfloat16 if self.precision.name == "bf16" else None
        self.eye = Eye(network, preset, dtype=dtype)
        self.content_eye = Eye(network, replace(preset, style_weights=()), dtype=dtype)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {
            "network": self.fast.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "recipe": asdict(self.recipe),
            "precision": self.precision.name,
            "step": self.step,
            "sums": (self.sums, self.count),
            "seconds": self.read_clock(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises `SaccadeError` if it belongs to another run."""
        try:
            if state["recipe"] != asdict(self.recipe):
                raise ValueError("its recipe is another")
            if state["precision"] != self.precision.name:
                self.precision = Precision(state["precision"], "as the run began")
                self._look(self.eye.network, self.eye.preset)
            self.fast.load_state_dict(state["network"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, (self.sums, self.count) = state["step"], state["sums"]
            self.seconds, self._clock = state["seconds"], time.monotonic()
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise SaccadeError(
                f"The checkpoint does not fit this training of a style network ({str(error).splitlines()[0]}). Choose "
                "another file for it, or delete that one."
            ) from error

    def advance(self) -> None:
        """One step: a batch of crops, all in one style."""
        recipe = self.recipe
        pictures = self.photographs.batch(recipe.batch_size, recipe.size, seed=recipe.seed, step=self.step)
        pictures = pictures.to(self.device, memory_format=torch.channels_last)
        style = mix(recipe.seed, self.step, 1) % len(self.targets)
        with torch.no_grad():
            content = self.content_eye(pictures)
        with self.precision.autocast(self.device):
            restyled = self.fast(pictures, style)
        maps = self.eye(restyled)
        zero = restyled.new_zeros(len(restyled))
        losses = torch.stack(
            [
                (zero + self.eye.content_loss(maps, content)).mean(),
                (zero + self._style_loss(restyled, maps, self.targets[style])).mean(),
                variation(self.eye, restyled).mean(),
                self._unsteadiness(pictures, restyled, style) if recipe.stability else restyled.new_zeros(()),
            ]
        )
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.sums += losses.detach()
        self.count += 1
        self.step += 1

    def _style_loss(
        self, restyled: Tensor, maps: Maps, targets: Mapping[int, Mapping[str, Sequence[Summary]]]
    ) -> Float[Tensor, " n"] | float:
        """The style losses at every size, weighted. maps: those at the full size."""
        loss: Any = 0.0
        for scale, weight in self.weights.items():
            seen = maps if scale == 1 else self.eye(F.avg_pool2d(restyled, scale))
            loss = loss + weight * self.eye.style_loss(self.eye.summaries(seen), targets[scale])
        return loss  # type: ignore[no-any-return]

    def _unsteadiness(self, pictures: Tensor, restyled: Tensor, style: int) -> Float[Tensor, ""]:
        """The charge for what a shift and noise change, away from the border, where the shift brings in new pixels."""
        recipe = self.recipe
        draw = generator(recipe.seed, self.step, 2)
        down, across = torch.randint(-recipe.shift, recipe.shift + 1, (2,), generator=draw).tolist()
        noise = torch.randn(pictures.shape, generator=draw).to(pictures) * recipe.noise
        moved = (pictures.roll((down, across), (2, 3)) + noise).clamp(0, 1)
        with self.precision.autocast(self.device):
            again = self.fast(moved, style).roll((-down, -across), (2, 3))
        inner = slice(recipe.shift, -recipe.shift or None)
        return recipe.stability * F.mse_loss(again[:, :, inner, inner], restyled[:, :, inner, inner])

    def read(self) -> dict[str, float]:
        """The mean losses since the last reading. Raises `SaccadeError` if they are not finite."""
        content, style, tv, stability = (self.sums / max(1, self.count)).tolist()
        self.sums, self.count = torch.zeros_like(self.sums), 0
        if not math.isfinite(content + style + tv + stability):
            raise SaccadeError(
                f"Training a style network: the loss became {content + style + tv + stability} by step {self.step}. "
                f"Try a learning rate below {self.recipe.rate:g}; the last checkpoint is from before."
            )
        return {"content": content, "style": style, "variation": tv, "stability": stability}

    def read_clock(self) -> float:
        """Seconds spent so far, over all sittings."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return self.seconds


def train_fast(
    photographs: Source | Photographs,
    styles: Mapping[str, Tensor],
    *,
    network: nn.Module,
    preset: Preset = FAST,
    recipe: FastRecipe | None = None,
    architecture: Mapping[str, Any] | None = None,
    start: FastStyle | None = None,
    name: str = "fast",
    validation: Float[Tensor, "n 3 h w"] | None = None,
    callback: Callback | None = None,
    log_every: int = 50,
    checkpoint: str | Path | None = None,
    save_every: float = 60.0,
    limit: float | None = None,
    device: torch.device | str = "cpu",
) -> FastStyle:
    """A network that gives photographs a style in one pass (Johnson et al. 2016, arXiv:1603.08155).

    Args:
        photographs: what `Photographs` takes.
        styles: a picture (3, H, W) in [0, 1] of any size by the name of its style. Several share one network.
        network: the eye whose features are compared, on `device`; it is left as it was.
        preset: the objective; its content and style are those of an optimisation.
        architecture: keywords of `TransformationNet`, styles aside.
        start: a network to go on from, of the same architecture and as many styles; a run of a few hundred steps then
            gives a new style. It is copied.
        validation: pictures to restyle at each row.
        callback: called with each row, every `log_every` steps and at the end.
        checkpoint: a file that is written every `save_every` seconds and at the end; if it is there the run goes on
            from it, on the CPU to the same bits as one that was not interrupted.
        limit: seconds of training, over all sittings, after which it stops early.

    Raises:
        SaccadeError: a picture is none, the loss is not finite, or the checkpoint belongs to another run.
    """
    recipe = recipe or FastRecipe()
    if not styles or min(recipe.steps, recipe.batch_size) < 1 or recipe.size < 4 * recipe.shift or log_every < 1:
        raise SaccadeError(
            f"Could not train a style network: {len(styles)} styles, {recipe.steps} steps of {recipe.batch_size} crops "
            f"of {recipe.size} pixels, shifted by up to {recipe.shift}; expected at least one of each, and a crop "
            "of four times the shift."
        )
    for picture in styles.values():
        check_input(picture[None], "train a style network")
    device = torch.device(device)
    shrunk = [_style(picture, recipe.style_size) for picture in styles.values()]
    fast = _new(styles, name, architecture, recipe.seed) if start is None else _copy(start, list(styles), name)
    fast.train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not isinstance(photographs, Photographs):
        photographs = Photographs(photographs)
    run = Training(photographs, shrunk, network, preset, recipe, fast, device)
    if checkpoint is not None and Path(checkpoint).exists():
        run.restore(load_checkpoint(checkpoint, device=device))
    _loop(run, validation, callback, log_every, checkpoint, save_every, limit)
    fast.meta |= {
        "recipe": asdict(recipe),
        "photographs": photographs.name,
        "backbone": getattr(network, "name", type(network).__name__),
        "steps": run.step,
        "seconds": round(run.read_clock(), 1),
    }
    result: FastStyle = fast.eval()
    return result


def _loop(
    run: Training,
    validation: Tensor | None,
    callback: Callback | None,
    log_every: int,
    checkpoint: str | Path | None,
    save_every: float,
    limit: float | None,
) -> None:
    saved = time.monotonic()
    steps = run.recipe.steps
    while run.step < steps and (limit is None or run.read_clock() < limit):
        run.advance()
        if run.step % log_every == 0 or run.step == steps:
            losses, pictures = run.read(), None
            if callback is not None:
                if validation is not None:
                    with evaluating(run.fast):
                        pictures = run.fast(validation.to(run.device))
                callback(Row(run.step, steps, **losses, seconds=round(run.read_clock(), 1), pictures=pictures))
        if checkpoint is not None and time.monotonic() - saved > save_every:
            if not torch.isfinite(run.sums).all():
                run.read()  # says so
            save_checkpoint(checkpoint, run.state())
            saved = time.monotonic()
    if checkpoint is not None:
        save_checkpoint(checkpoint, run.state())


def _new(styles: Mapping[str, Tensor], name: str, architecture: Mapping[str, Any] | None, seed: int) -> FastStyle:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed, 3))
        return FastStyle(styles=list(styles), name=name, architecture=architecture)


def _copy(start: FastStyle, styles: list[str], name: str) -> FastStyle:
    if len(start.styles) != len(styles):
        raise SaccadeError(
            f"Could not train a style network: {start.name}, from which to start, has {len(start.styles)} styles and "
            f"{len(styles)} are given, expected as many."
        )
    fast = FastStyle(styles=styles, name=name, architecture=start.architecture)
    fast.load_state_dict(start.state_dict())
    return fast


def _style(picture: Tensor, size: int) -> Float[Tensor, "1 3 h w"]:
    return resize(picture[None], size) if min(picture.shape[1:]) > size else picture[None]


def _smaller(picture: Float[Tensor, "1 3 h w"], scale: int) -> Float[Tensor, "1 3 a b"]:
    """A picture at a fraction of its size."""
    return picture if scale == 1 else resize(picture, max(1, round(min(picture.shape[2:]) / scale)))
