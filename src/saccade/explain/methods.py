"""The table of the methods: one line each. A new one is a file, and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from saccade.errors import SaccadeError
from saccade.explain.ablation_cam import ablation_cam
from saccade.explain.deeplift import deeplift
from saccade.explain.eigen_cam import eigen_cam
from saccade.explain.expected import expected_gradients
from saccade.explain.grad_cam import (
    grad_cam,
    grad_cam_plus_plus,
    guided_grad_cam,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from saccade.explain.guided import deconvnet, guided_backprop
from saccade.explain.integrated import integrated_gradients
from saccade.explain.kernel_shap import kernel_shap
from saccade.explain.lime import lime
from saccade.explain.lrp import lrp
from saccade.explain.occlusion import occlusion
from saccade.explain.question import Target
from saccade.explain.rise import rise
from saccade.explain.saliency import gradient, input_x_gradient, saliency
from saccade.explain.score_cam import score_cam
from saccade.explain.smooth_grad import smooth_grad

Family = Literal["gradient", "propagation", "cam", "perturbation"]


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    function: (network, pictures, target, **settings) -> (N, 3, H, W) if `colours`, else (N, H, W). paper: arXiv number
    or another reference. complete: "score" if the values sum to the score, "difference" if to its difference from a
    baseline's. slope: the values are derivatives, of which only the magnitude ranks pixels. sampled: draws random
    numbers, and takes `seed=`. layered: takes `layer=`. note: what its user must know.
    """

    name: str
    title: str
    function: Callable[..., Tensor]
    paper: str
    family: Family
    colours: bool = True
    complete: Literal["", "score", "difference"] = ""
    slope: bool = False
    sampled: bool = False
    layered: bool = False
    note: str = ""


_EDGES = "close to the same map for a network of random weights: a picture of edges rather than of reasons"
_SWITCHES = "sees the picture only through the switches of maximum pooling; without these it is always the same map"
_square = partial(smooth_grad, kind="square")
_variance = partial(smooth_grad, kind="variance")


def _slope(name: str, title: str, function: Callable[..., Tensor], paper: str, **more: Any) -> Method:
    return Method(name, title, function, paper, "gradient", slope=True, **more)


def _cam(name: str, title: str, function: Callable[..., Tensor], paper: str, note: str = "") -> Method:
    return Method(name, title, function, paper, "cam", colours=False, layered=True, note=note)


_LIST = [
    _slope("gradient", "gradient", gradient, "arXiv:1312.6034"),
    Method("saliency", "saliency", saliency, "arXiv:1312.6034", "gradient", colours=False),
    Method("input-x-gradient", "gradient x input", input_x_gradient, "arXiv:1605.01713", "gradient"),
    _slope("guided-backprop", "guided backprop", guided_backprop, "arXiv:1412.6806", note=_EDGES),
    _slope("deconvnet", "deconvnet", deconvnet, "arXiv:1311.2901", note=_SWITCHES),
    _slope("smooth-grad", "SmoothGrad", smooth_grad, "arXiv:1706.03825", sampled=True),
    _slope("smooth-grad-squared", "SmoothGrad squared", _square, "arXiv:1806.10758", sampled=True),
    _slope("var-grad", "VarGrad", _variance, "arXiv:1810.03307", sampled=True),
    Method(
        "integrated-gradients",
        "integrated gradients",
        integrated_gradients,
        "arXiv:1703.01365",
        "gradient",
        complete="difference",
        note="has the picture as a factor, so parts of it survive any weights",
    ),
    Method(
        "expected-gradients",
        "expected gradients",
        expected_gradients,
        "arXiv:1705.07874",
        "gradient",
        sampled=True,
        note="also called GradientSHAP; sums to the difference from the background in expectation",
    ),
    Method("deeplift", "DeepLIFT", deeplift, "arXiv:1704.02685", "propagation", complete="difference"),
    Method("lrp", "LRP", lrp, "doi:10.1371/journal.pone.0130140", "propagation"),
    _cam("grad-cam", "Grad-CAM", grad_cam, "arXiv:1610.02391"),
    _cam("grad-cam-plus-plus", "Grad-CAM++", grad_cam_plus_plus, "arXiv:1710.11063"),
    _cam("xgrad-cam", "XGrad-CAM", xgrad_cam, "arXiv:2008.02312"),
    _cam("hires-cam", "HiResCAM", hires_cam, "arXiv:2011.08891"),
    _cam("layer-cam", "LayerCAM", layer_cam, "doi:10.1109/TIP.2021.3089943"),
    _cam("score-cam", "Score-CAM", score_cam, "arXiv:1910.01279"),
    _cam("ablation-cam", "Ablation-CAM", ablation_cam, "doi:10.1109/WACV45572.2020.9093360"),
    _cam("eigen-cam", "Eigen-CAM", eigen_cam, "arXiv:2008.00299", "does not depend on the class"),
    _slope("guided-grad-cam", "guided Grad-CAM", guided_grad_cam, "arXiv:1610.02391", layered=True, note=_EDGES),
    Method("occlusion", "occlusion", occlusion, "arXiv:1311.2901", "perturbation", colours=False),
    Method(
        "rise",
        "RISE",
        rise,
        "arXiv:1806.07421",
        "perturbation",
        colours=False,
        sampled=True,
        note="mean probability while a pixel is seen, so never negative",
    ),
    Method("lime", "LIME", lime, "arXiv:1602.04938", "perturbation", colours=False, sampled=True),
    Method(
        "kernel-shap",
        "KernelSHAP",
        kernel_shap,
        "arXiv:1705.07874",
        "perturbation",
        colours=False,
        complete="difference",
        sampled=True,
    ),
]
METHODS: dict[str, Method] = {method.name: method for method in _LIST}
"""The methods of attribution by name."""


def find_method(name: str) -> Method:
    """A method by its name (case, spaces and underscores do not matter); raises `SaccadeError` with all there are."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain not in METHODS:
        raise SaccadeError(f"There is no method {name!r}; there are {', '.join(METHODS)}.")
    return METHODS[plain]


def attribute(network: nn.Module, pictures: Tensor, target: Target, method: str, **settings: Any) -> Tensor:
    """Any method by its name: see `METHODS`, and the function of that method for its settings."""
    return find_method(method).function(network, pictures, target, **settings)
