"""How much of a set of pictures is proved to stand: what certificates find, counted."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.attack.certify.certificate import certify
from saccade.attack.certify.exact import verify
from saccade.attack.certify.linear_bounds import METHODS
from saccade.attack.evaluate.wilson import Share
from saccade.attack.noise import no_attack
from saccade.engine.chunks import chunks
from saccade.errors import SaccadeError

PROOFS = (*METHODS, "exact")
PART = 16  # pictures between two calls of progress


@dataclass(frozen=True)
class Survey:
    """Of N pictures: which the network gets right, which of them no change within eps can alter, and which a change
    that was found does; the rest are open. With bounds alone none is found."""

    right: Bool[Tensor, " n"]
    certified: Bool[Tensor, " n"]
    fooled: Bool[Tensor, " n"]

    @property
    def open(self) -> Bool[Tensor, " n"]:
        return self.right & ~self.certified & ~self.fooled

    def shares(self) -> dict[str, Share]:
        """All four as shares of the pictures."""
        every = {"clean": self.right, "certified": self.certified, "fooled": self.fooled, "open": self.open}
        return {name: Share(int(which.sum()), len(which)) for name, which in every.items()}


def survey(
    network: nn.Module,
    pictures: Float[Tensor, "n c h w"],
    labels: Int[Tensor, " n"],
    eps: float,
    *,
    method: str = "crown",
    time_limit: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Certify every picture that the network gets right.

    Args:
        network, pictures, labels, eps: as of `certify`.
        method: of `certify`, or "exact", which is `verify`.
        time_limit: of `verify`.
        progress: called with (pictures done, in all).

    Raises:
        SaccadeError: as of `certify` and `verify`.
    """
    if method not in PROOFS:
        raise SaccadeError(f"Could not certify: there is no method {method!r}; there are {', '.join(PROOFS)}.")
    right = ~no_attack(network, pictures, labels).success.cpu()
    certified, fooled = torch.zeros_like(right), torch.zeros_like(right)
    rows = right.nonzero()[:, 0]
    for part in chunks(len(rows), PART):
        some = rows[part]
        x, y = (v[some.to(v.device)] for v in (pictures, labels))
        if method == "exact":
            verdict = verify(network, x, y, eps, time_limit=time_limit)
            certified[some], fooled[some] = verdict.verified.cpu(), verdict.fooled.cpu()
        else:
            certified[some] = certify(network, x, y, eps, method=method).certified.cpu()  # type: ignore[arg-type]
        if progress is not None:
            progress(part.stop, len(rows))
    return Survey(right, certified, fooled)
