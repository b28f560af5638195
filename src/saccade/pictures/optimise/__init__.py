"""One optimiser for everything that grows a picture; it knows pictures and objectives, and nothing of networks.

`optimise` is the loop; the other names are the parts it is given: what is stepped (`Pixels`, `Fourier`), by which rule
(`Plain`, `Normalised`, `Progress`, `Calibrated`, `Adam`, `LBFGS`), seen how (`Pad`, `Jitter`, `Crop`, `Scale`,
`Rotate`), charged for what (functions) and held where (`Box`, `Ball`, `Decay`, `Blur`, `ClipSmallNorm`,
`ClipSmallContribution`). Any function of the same signature serves beside them.
"""

from saccade.pictures.optimise.blur import gaussian_blur
from saccade.pictures.optimise.lbfgs import LBFGS
from saccade.pictures.optimise.loop import Moment, Stage, optimise
from saccade.pictures.optimise.parametrise import Fourier, Pixels, noise
from saccade.pictures.optimise.penalties import alpha_norm, l2, roughness, total_variation
from saccade.pictures.optimise.projections import Ball, Blur, Box, ClipSmallContribution, ClipSmallNorm, Decay
from saccade.pictures.optimise.steps import Adam, Calibrated, Normalised, Plain, Progress, Rule
from saccade.pictures.optimise.transforms import Crop, Jitter, Pad, Rotate, Scale

__all__ = [
    "LBFGS",
    "Adam",
    "Ball",
    "Blur",
    "Box",
    "Calibrated",
    "ClipSmallContribution",
    "ClipSmallNorm",
    "Crop",
    "Decay",
    "Fourier",
    "Jitter",
    "Moment",
    "Normalised",
    "Pad",
    "Pixels",
    "Plain",
    "Progress",
    "Rotate",
    "Rule",
    "Scale",
    "Stage",
    "alpha_norm",
    "gaussian_blur",
    "l2",
    "noise",
    "optimise",
    "roughness",
    "total_variation",
]
