"""Losses of adversarial training that look at a picture and at its perturbed copy together."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def divergence(reference: Float[Tensor, "n classes"], logits: Float[Tensor, "n classes"]) -> Float[Tensor, " n"]:
    """Kullback-Leibler divergence of softmax(logits) from softmax(reference) for each picture, in nats."""
    return F.kl_div(logits.log_softmax(1), reference.log_softmax(1), reduction="none", log_target=True).sum(1)


def trades_loss(
    clean: Float[Tensor, "n classes"],
    perturbed: Float[Tensor, "n classes"],
    labels: Int[Tensor, " n"],
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """Cross entropy of the clean logits, and `beta` times the divergence of the perturbed ones from them, mean.

    TRADES (Zhang et al. 2019, arXiv:1901.08573): beta, their 1 / lambda, trades accuracy for robustness.
    """
    return F.cross_entropy(clean, labels) + beta * divergence(clean, perturbed).mean()


def mart_loss(
    clean: Float[Tensor, "n classes"],
    perturbed: Float[Tensor, "n classes"],
    labels: Int[Tensor, " n"],
    *,
    beta: float,
) -> Float[Tensor, ""]:
    """Boosted cross entropy of the perturbed logits, and `beta` times their divergence from the clean ones weighted by
    the probability that the clean picture is misread, mean.

    MART (Wang et al. 2020, openreview.net/forum?id=rklOg6EFwS, ICLR). The boost is -log(1 - p) of the likeliest wrong
    class, taken as a difference of two logarithms of sums of exponentials, so that it stays finite when p rounds to 1.
    """
    right = F.one_hot(labels, perturbed.shape[1]).bool()
    rival = perturbed.masked_fill(right, -torch.inf).argmax(1, keepdim=True)
    others = torch.ones_like(right).scatter(1, rival, False)
    boost = perturbed.logsumexp(1) - perturbed.masked_fill(~others, -torch.inf).logsumexp(1)
    misread = 1 - clean.softmax(1).gather(1, labels[:, None])[:, 0]
    each = F.cross_entropy(perturbed, labels, reduction="none") + boost + beta * misread * divergence(clean, perturbed)
    return each.mean()
