"""Why a network decides as it does: attributions to the pixels, and honest scores of them."""

from saccade.explain.ablation_cam import ablation_cam
from saccade.explain.board import Scoreboard
from saccade.explain.conductance import conductance
from saccade.explain.deeplift import deeplift
from saccade.explain.draw import draw, explanation_sheet
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
from saccade.explain.integrated import completeness_gap, integrated_gradients
from saccade.explain.kernel_shap import kernel_shap
from saccade.explain.lime import lime
from saccade.explain.lrp import lrp
from saccade.explain.methods import METHODS, Method, attribute, find_method
from saccade.explain.occlusion import occlusion
from saccade.explain.question import MapWarning, Target, Unit
from saccade.explain.reduce import as_map
from saccade.explain.rise import rise
from saccade.explain.saliency import gradient, input_x_gradient, saliency
from saccade.explain.score_cam import score_cam
from saccade.explain.scoreboard import scoreboard
from saccade.explain.smooth_grad import smooth_grad

__all__ = [
    "METHODS",
    "MapWarning",
    "Method",
    "Scoreboard",
    "Target",
    "Unit",
    "ablation_cam",
    "as_map",
    "attribute",
    "completeness_gap",
    "conductance",
    "deconvnet",
    "deeplift",
    "draw",
    "eigen_cam",
    "expected_gradients",
    "explanation_sheet",
    "find_method",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "layer_cam",
    "lime",
    "lrp",
    "occlusion",
    "rise",
    "saliency",
    "score_cam",
    "scoreboard",
    "smooth_grad",
    "xgrad_cam",
]
