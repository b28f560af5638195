"""Mixing pictures of a batch, and the loss that belongs to it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Targets:
    """Labels of a batch: of the pictures themselves, or of two mixed ones with the share of the first."""

    labels: Int[Tensor, " n"]
    others: Int[Tensor, " n"] | None = None
    share: float = 1.0

    def loss(self, logits: Float[Tensor, "n classes"], *, smoothing: float = 0.0) -> Float[Tensor, ""]:
        """Mean cross entropy, mixed as the pictures are."""
        first = F.cross_entropy(logits, self.labels, label_smoothing=smoothing)
        if self.others is None:
            return first
        return self.share * first + (1 - self.share) * F.cross_entropy(logits, self.others, label_smoothing=smoothing)


def mix(
    pictures: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    *,
    mixup: float,
    cutmix: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n 3 h w"], Targets]:
    """Mix each picture with another of the batch; where both are asked for, a coin decides for the batch.

    mixup: alpha of Zhang et al. 2018 (arXiv:1710.09412), a weighted mean of two pictures. cutmix: alpha of
    Yun et al. 2019 (arXiv:1905.04899), a rectangle of the other picture; the share is that of the visible area.
    """
    if mixup == 0 and cutmix == 0:
        return pictures, Targets(labels)
    coin = torch.rand((), generator=generator)
    use_cutmix = mixup == 0 or (cutmix > 0 and bool(coin < 0.5))
    alpha = torch.full((2,), cutmix if use_cutmix else mixup)
    weights = torch._standard_gamma(alpha, generator=generator)
    share = float(weights[0] / weights.sum())
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    if not use_cutmix:
        return torch.lerp(pictures[order], pictures, share), Targets(labels, labels[order], share)
    h, w = pictures.shape[-2:]
    side = (1 - share) ** 0.5
    cy, cx = (torch.rand(2, generator=generator) * torch.tensor([h, w])).tolist()
    top, bottom = (round(min(max(cy + d * side * h / 2, 0), h)) for d in (-1, 1))
    left, right = (round(min(max(cx + d * side * w / 2, 0), w)) for d in (-1, 1))
    mixed = pictures.clone(memory_format=torch.preserve_format)
    mixed[..., top:bottom, left:right] = pictures[order][..., top:bottom, left:right]
    return mixed, Targets(labels, labels[order], 1 - (bottom - top) * (right - left) / (h * w))
