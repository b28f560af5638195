"""The class activation maps that weigh a layer's maps by gradients: Grad-CAM and what followed it.

A is a channel's map, g the gradient of the raw score by it, both (h, w); a sum over the channels gives the map of a
picture. In a network that ends in a global average and a linear layer, Grad-CAM, HiResCAM and XGrad-CAM of the layer
before the average are one and the same: CAM (Zhou and others 2016, arXiv:1512.04150) divided by h * w.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.explain.cam import gradient_map, weighted_sum
from saccade.explain.guided import guided_backprop
from saccade.explain.question import Target, finished


def grad_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """Grad-CAM: the maps of a layer, each times the mean gradient of the score by it, summed.

    Selvaraju and others 2017, arXiv:1610.02391. Only the network behind the layer is differentiated.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is explained, see `Target`; a `Unit` must lie behind the layer.
        layer: whose maps are weighted, by its dotted name or itself; None takes the last that gives a map, and says so
            in the log "saccade". Of a layer that runs several times the last run counts.
        relu: keep what speaks for the target, as in the paper; False gives the signed map.
        enlarge: enlarge the map bilinearly to the pictures; False gives it in the size of the layer's maps.
        batch_size: pictures at once; by default as many as are fast and fit into memory.

    Returns:
        (N, H, W), or (N, h, w) of the layer if not `enlarge`; of the device and dtype of `pictures`, not normalised.

    Raises:
        SaccadeError: the pictures have another shape or type, there is no such target or layer, the layer gives no
            maps, or the unit does not lie behind it.
    """

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        return weighted_sum(gradient.mean((2, 3)), activation)

    operation = "compute Grad-CAM"
    found = gradient_map(network, pictures, target, operation, weigh, layer, relu, enlarge, batch_size)
    return finished(found, operation)


def grad_cam_plus_plus(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """Grad-CAM++: a channel's weight is the sum of its positive gradients, each times a factor alpha of its place.

    Chattopadhay and others 2018, arXiv:1710.11063, whose form for exp(score) it is: the weight exp(score) *
    sum(alpha * relu(g)) with alpha = g^2 / (2 g^2 + sum(A) * g^3). Where g is not 0 that alpha is 1 / (2 + sum(A) * g),
    and is computed so, as g^3 vanishes in float32. exp(score), one factor for a whole picture, is left out: it would
    overflow, and scale the map, no more. Args and errors are those of `grad_cam`.
    """

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        below = 2 + activation.sum((2, 3), keepdim=True) * gradient
        counts = (gradient > 0) & (below != 0)
        share = torch.where(counts, gradient / below, 0 * gradient)  # 0, or not a number
        return weighted_sum(share.sum((2, 3)), activation)

    operation = "compute Grad-CAM++"
    found = gradient_map(network, pictures, target, operation, weigh, layer, relu, enlarge, batch_size)
    return finished(found, operation)


def xgrad_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """XGrad-CAM: a channel's weight is the mean of its gradients weighted by its activations, sum(A * g) / sum(A).

    Fu and others 2020, arXiv:2008.02312; meant for a layer behind a ReLU. Without the ReLU on the map, the sum of the
    map is sum(A * g), the paper's axiom of conservation. A channel whose activations sum to 0 counts nothing. Args and
    errors are those of `grad_cam`.
    """

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        total = activation.sum((2, 3))
        weights = torch.where(total != 0, (activation * gradient).sum((2, 3)) / total, torch.zeros_like(total))
        return weighted_sum(weights, activation)

    operation = "compute XGrad-CAM"
    found = gradient_map(network, pictures, target, operation, weigh, layer, relu, enlarge, batch_size)
    return finished(found, operation)


def hires_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = False,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """HiResCAM: activations times gradients, place by place, summed over the channels; signed.

    Draelos and Carin 2020, arXiv:2011.08891. If all behind the layer is linear, the map (not enlarged) sums to the
    score less the biases: it shows what the network used, where. Args and errors are those of `grad_cam`.
    """

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        return (activation * gradient).sum(1)

    operation = "compute HiResCAM"
    found = gradient_map(network, pictures, target, operation, weigh, layer, relu, enlarge, batch_size)
    return finished(found, operation)


def layer_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    relu: bool = True,
    enlarge: bool = True,
    batch_size: int | None = None,
) -> Float[Tensor, "n a b"]:
    """LayerCAM: activations times what is positive of their gradients, place by place, summed over the channels.

    Jiang and others 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 30; made
    for early layers too, whose maps are finer. Args and errors are those of `grad_cam`.
    """

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        return (activation * gradient.relu()).sum(1)

    operation = "compute LayerCAM"
    found = gradient_map(network, pictures, target, operation, weigh, layer, relu, enlarge, batch_size)
    return finished(found, operation)


def guided_grad_cam(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    layer: str | nn.Module | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Guided Grad-CAM: guided backpropagation times Grad-CAM, (N, 3, H, W), signed.

    Selvaraju and others 2017, arXiv:1610.02391. As fine as the first and as much about the class as the second; but as
    guided backpropagation it hardly changes when the weights are drawn anew (Adebayo and others 2018,
    arXiv:1810.03292). Args and errors are those of `grad_cam`.
    """
    where = grad_cam(network, pictures, target, layer=layer, batch_size=batch_size)
    fine = guided_backprop(network, pictures, target, batch_size=batch_size)
    return finished(fine * where[:, None], "compute guided Grad-CAM")
