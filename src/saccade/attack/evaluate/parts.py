"""The pictures of an evaluation in parts, each kept in a file as far as it has come, and shared out over processes."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.chunks import chunks
from saccade.engine.distributed import World, sum_over_processes
from saccade.engine.files import remove_leftovers
from saccade.errors import SaccadeError

NEVER = -1
"""In `Part.broken_by`: no attack has fooled the network with this picture."""


@dataclass(frozen=True, eq=False)
class Part:
    """What is known of some of the pictures, after some of the attacks.

    rows: which pictures. right: whether the network was right before. said, says: the class it says of the original,
    and of the adversarial picture. adversarial: the original where it was not fooled. broken_by: the number of the
    first attack that fooled it, or `NEVER`. norm: the size of that change, 0 without one. smallest: that of the
    smallest change that any attack found, within the budget or not; infinite without one, 0 where it was wrong before.
    lapsed: how often it seemed to be fooled and was not when asked again. forwards, backwards: passes, a column an
    attack. seconds: of each attack that is done.
    """

    rows: Int[Tensor, " n"]
    right: Bool[Tensor, " n"]
    said: Int[Tensor, " n"]
    says: Int[Tensor, " n"]
    adversarial: Float[Tensor, "n c h w"]
    broken_by: Int[Tensor, " n"]
    norm: Float[Tensor, " n"]
    smallest: Float[Tensor, " n"]
    lapsed: Int[Tensor, " n"]
    forwards: Int[Tensor, "n attacks"]
    backwards: Int[Tensor, "n attacks"]
    seconds: tuple[float, ...] = ()

    @property
    def done(self) -> int:
        """How many attacks are done."""
        return len(self.seconds)


@dataclass(frozen=True)
class Store:
    """A folder with a file for each part, of one evaluation of so many attacks; without a folder nothing is kept.

    key: of all that the parts depend on.
    """

    folder: Path | None
    key: str
    attacks: int

    def save(self, part: Part) -> None:
        """Keep a part as it is now."""
        if self.folder is not None:
            state = {field.name: getattr(part, field.name) for field in fields(part)}
            name = f"{int(part.rows[0]):07d}-{len(part.rows):05d}.pt"
            begun, done = self.folder / f"part-{name}", self.folder / f"done-{name}"
            for path in (begun, done):
                remove_leftovers(path)
            save_checkpoint(begun if part.done < self.attacks else done, {"key": self.key, "part": state})
            if part.done == self.attacks:
                begun.unlink(missing_ok=True)

    def parts(self) -> list[Part]:
        """All parts that are kept; files that a crash damaged count as none.

        Raises `SaccadeError` for parts of another evaluation.
        """
        if self.folder is None:
            return []
        found = []
        done = {path.name.removeprefix("done") for path in self.folder.glob("done-*.pt")}
        for path in sorted([*self.folder.glob("done-*.pt"), *self.folder.glob("part-*.pt")]):
            if path.name.startswith("part") and path.name.removeprefix("part") in done:
                continue  # a crash came between the two
            try:
                state = load_checkpoint(path)
            except SaccadeError:
                path.unlink(missing_ok=True)
                continue
            if state.get("key") != self.key:
                raise SaccadeError(
                    f"Could not evaluate robustness: {path} was made of other pictures, another network or other "
                    "settings; choose another folder, or remove that one."
                )
            found.append(Part(**state["part"]))
        return found

    def jobs(self, count: int, size: int, world: World) -> Iterator[Part | Int[Tensor, " n"]]:
        """What this process has to do of `count` pictures: parts that were begun, and rows of new ones.

        However many processes began the work, those of `world` share out what is left.
        """
        kept = self.parts()
        sum_over_processes(torch.zeros(1, device=world.device), world)  # nobody writes before everybody has looked
        left = torch.ones(count, dtype=torch.bool)
        for part in kept:
            left[part.rows] = False
        begun: list[Part | Tensor] = [part for part in kept if part.done < self.attacks]
        rows = left.nonzero()[:, 0]
        even = math.ceil(len(rows) / world.size)  # nobody idles where there are few
        new: list[Part | Tensor] = [rows[piece] for piece in chunks(len(rows), max(1, min(size, even)))]
        yield from (begun + new)[world.rank :: world.size]

    def whole(self, count: int) -> list[Part]:
        """All parts, once the other processes are done with theirs."""
        assert self.folder is not None
        while sum(int(path.stem[-5:]) for path in self.folder.glob("done-*.pt")) < count:
            time.sleep(0.2)  # not a barrier, which gives up after minutes
        return self.parts()
