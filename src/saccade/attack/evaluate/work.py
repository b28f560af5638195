"""The attacks of an evaluation on some of its pictures at a time."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from saccade.attack.attacks import Attack
from saccade.attack.balls import Norm, distance
from saccade.attack.engine import AttackWarning, searching
from saccade.attack.evaluate.curve import SMALLEST
from saccade.attack.evaluate.export8 import SLACK
from saccade.attack.evaluate.parts import NEVER, Part
from saccade.attack.evaluate.suites import OPERATION, ask
from saccade.errors import SaccadeError


class Work:
    """The attacks on one network, and all its pictures."""

    def __init__(
        self,
        network: nn.Module,
        pictures: Tensor,
        labels: Tensor,
        attacks: tuple[Attack, ...],
        norm: Norm,
        eps: float,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.network, self.pictures, self.labels, self.attacks = network, pictures, labels, attacks
        self.norm, self.eps, self.seed, self.batch_size = norm, eps, seed, batch_size
        self.device = next((p.device for p in network.parameters()), pictures.device)

    def begin(self, rows: Tensor) -> Part:
        """What the network says of some of the pictures before any attack."""
        x, y = self.take(rows)
        with _explained("before any attack", rows):
            right, said = self._asked(x, y)
        none = torch.zeros(len(rows), len(self.attacks), dtype=torch.int64)
        return Part(
            rows=rows,
            right=right,
            said=said,
            says=said,
            adversarial=x.cpu(),
            broken_by=torch.full_like(rows, NEVER),
            norm=torch.zeros(len(rows), dtype=x.dtype),
            smallest=torch.where(right, torch.inf, 0.0).to(x.dtype),
            lapsed=torch.zeros_like(rows),
            forwards=none,
            backwards=none,
        )

    def attacked(self, part: Part) -> Part:
        """A part after the next attack."""
        number = part.done
        attack = self.attacks[number]
        everyone = attack is SMALLEST
        on = (part.right if everyone else part.right & (part.broken_by == NEVER)).nonzero()[:, 0]
        state = {key: value.clone() for key, value in vars(part).items() if isinstance(value, Tensor)}
        began = time.perf_counter()
        if len(on):
            x, y = self.take(part.rows[on])
            with _explained(f"under {attack.title}", part.rows[on]), warnings.catch_warnings():
                warnings.simplefilter("ignore", AttackWarning)  # the checks say more
                found = ask(attack, self.network, x, y, norm=self.norm, eps=self.eps, seed=self.seed,
                            batch_size=self.batch_size)  # fmt: skip
            state["forwards"][on, number] = found.forwards.cpu()
            state["backwards"][on, number] = found.backwards.cpu()
            hits = found.success.nonzero()[:, 0]
            if len(hits):
                adversarial, rows = found.adversarial[hits], on[hits.cpu()]
                with _explained(f"after {attack.title}", part.rows[rows]):
                    right, says = self._asked(adversarial, y[hits])
                state["forwards"][rows, number] += 1
                state["lapsed"][rows] += right
                size = distance(adversarial - x[hits], self.norm).cpu()
                state["smallest"][rows] = torch.minimum(state["smallest"][rows], size.where(~right, torch.inf))
                new = ~right & (size <= self.eps * SLACK) & (part.broken_by[rows] == NEVER)
                rows = rows[new]
                state["broken_by"][rows], state["norm"][rows] = number, size[new]
                state["adversarial"][rows], state["says"][rows] = adversarial.cpu()[new], says[new]
        return Part(**state, seconds=(*part.seconds, time.perf_counter() - began))

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and labels, on the device of the network."""
        x = self.pictures[rows.to(self.pictures.device)].to(self.device)
        return x, self.labels[rows].to(self.device)

    def _asked(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the network is right about pictures, and which class it says."""
        with searching(
            self.network, x, y, operation=OPERATION, norm=self.norm, batch_size=self.batch_size, random=True
        ) as search:
            return ~search.success.cpu(), search.scores.argmax(1).cpu()


@contextmanager
def _explained(when: str, rows: Tensor) -> Iterator[None]:
    """What a network raises, as one sentence."""
    try:
        yield
    except SaccadeError:
        raise
    except Exception as error:  # networks raise anything
        said = str(error).strip().splitlines()
        raise SaccadeError(
            f"Could not {OPERATION}: the network raised {type(error).__name__} ({said[0] if said else 'no message'}) "
            f"{when}, on pictures between {int(rows.min())} and {int(rows.max())}. Mend it, and give the same folder "
            "to go on."
        ) from error


def count_classes(network: nn.Module, pictures: Tensor, norm: Norm, batch_size: int | None) -> int:
    """How many classes the network tells apart, by asking it about a picture."""
    device = next((p.device for p in network.parameters()), pictures.device)
    with (
        _explained("before any attack", torch.zeros(1)),
        searching(
            network, pictures[:1].to(device), 0, operation=OPERATION, norm=norm, batch_size=batch_size, random=True
        ) as search,
    ):
        return search.scores.shape[1]
