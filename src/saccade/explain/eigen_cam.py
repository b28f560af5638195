"""Eigen-CAM: where a layer's activations follow their main pattern; of no class.

Muhammad and Yeasin 2020, arXiv:2008.00299.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.explain.cam import as_map, batches, cam_layer, split
from saccade.explain.question import Target, asking, finished


def eigen_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """Eigen-CAM: the activations of a layer projected on their first principal direction, place by place.

    A picture's activations are a matrix (h * w, C) = U S V^T, not centred, as in the paper; the map is that matrix
    times the first column of V. As an SVD leaves the sign open, it is chosen such that the map goes with the
    activations summed over the channels: the sum of their product over the places is positive. The map is signed.

    It says nothing of the target, which is only checked: the map is the same for every class. Args, Returns and Raises
    are otherwise those of `grad_cam`.
    """
    operation = "compute Eigen-CAM"
    with asking(network, pictures, target, operation) as question, torch.no_grad():
        part = cam_layer(question, layer)
        found = [_projected(split(question, part, rows)[0]) for rows in batches(question, batch_size)]
        maps = as_map(torch.cat(found), question, relu=False, enlarge=enlarge)
    return finished(maps, operation)


def _projected(activation: Float[Tensor, "m c a b"]) -> Float[Tensor, "m a b"]:
    places = activation.flatten(2).transpose(1, 2)  # (m, h * w, C)
    exact = places.to(torch.promote_types(places.dtype, torch.float32))  # there is no SVD of half precision
    first = torch.linalg.svd(exact, full_matrices=False).Vh[:, 0].to(places.dtype)
    found = torch.einsum("mpc,mc->mp", places, first)
    against = (found * places.sum(2)).sum(1, keepdim=True) < 0
    return torch.where(against, -found, found).reshape(activation[:, 0].shape)
