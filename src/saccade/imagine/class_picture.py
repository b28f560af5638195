"""What a network takes a class to look like: a picture grown for its score."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from saccade.imagine.grow import Callback, grow
from saccade.imagine.objectives import Class
from saccade.imagine.recipes import Recipe


def class_picture(
    network: nn.Module,
    target: int | str | Sequence[int | str],
    *,
    recipe: str | Recipe = "modern",
    size: int | tuple[int, int] | None = None,
    variants: int = 1,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Pictures grown from noise for the raw score of a class (Simonyan and others 2014, arXiv:1312.6034, section 2).

    Gradients of adversarially trained networks are readable, and so are their class pictures; those of others are not.
    The recipe "modern" was tuned by eye on `saccade.load("tinynet-robust")`; "course" is the course's own loop.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C).
        target: a class as index or name, or several.
        variants: how many pictures of each class, from different noise; those of one class lie side by side.
        recipe, size, steps, seed, batch_size, callback, checkpoint: see `grow`.

    Returns:
        (classes * variants, 3, H, W) in [0, 1].

    Raises:
        SaccadeError: there is no such class or recipe, or the score stops being finite.
    """
    targets = [target] if isinstance(target, int | str) else list(target)
    wanted = [one for one in targets for _ in range(variants)]
    return grow(
        network,
        Class(wanted),
        recipe=recipe,
        size=size,
        count=len(wanted),
        variants=variants,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        callback=callback,
        checkpoint=checkpoint,
    )
