"""The presets: what well-known programs minimise, and what Saccade does by default."""

from saccade.networks.registry import unknown
from saccade.style.preset import Layers, Preset
from saccade.style.statistics import Gram, GramMeanStd, Wasserstein

_COURSE = Layers(("features.3",), tuple(f"features.{i}" for i in (1, 4, 6, 7)))


def _course(content: float, style: tuple[float, ...], tv: float) -> Preset:
    """The university course's objective (style transfer on SqueezeNet 1.1), with sums and in normalised pixels."""
    return Preset(
        content_weights=(content,),
        content_mean=False,
        style_weights=style,
        statistic=Gram("chw", "sum"),
        tv_weight=tv,
        tv="squares",
        space="normalised",
        layers={"squeezenet1_1": _COURSE, "squeezenet1_0": _COURSE},
    )


PRESETS: dict[str, Preset] = {
    # Relative losses, so that the weights mean the same on any network; the means as well as the Gram matrices, which
    # alone let contrast drift at large sizes (Risser et al. 2017, arXiv:1701.08893).
    "saccade": Preset(
        content_weights=(1.0,),
        content_relative=True,
        style_weights=(1.0, 1.0, 1.0, 1.0, 1.0),
        statistic=GramMeanStd(),
        tv_weight=2.0,
        tv="nine-point",
        padding="replicate",
    ),
    # Gatys, Ecker, Bethge 2015 (arXiv:1508.06576), as in the first author's PyTorch code.
    "gatys": Preset(
        content_weights=(1.0,),
        style_weights=tuple(1e3 / n**2 for n in (64, 128, 256, 512, 512)),
        statistic=Gram("hw", "mean"),
    ),
    # The PyTorch tutorial on neural style transfer: the first five convolutions, before their ReLUs.
    "tutorial": Preset(
        content_weights=(1.0,),
        style_weights=(1e6,) * 5,
        statistic=Gram("chw", "mean"),
        layers={"vgg19": Layers(("features.7",), tuple(f"features.{i}" for i in (0, 2, 5, 7, 10)))},
    ),
    # ProGamerGov's neural-style-pt, after Johnson's neural-style.
    "neural-style-pt": Preset(
        content_weights=(5.0,),
        style_weights=(100.0,) * 5,
        statistic=Gram("chw", "mean"),
        tv_weight=1e-3,
        tv="absolute",
        space="bytes",
    ),
    # Crowson's style-transfer-pytorch: Wasserstein-2 between Gaussians, many sizes.
    "wasserstein": Preset(
        content_weights=(0.015,),
        style_weights=tuple(w / 341 for w in (256, 64, 16, 4, 1)),
        statistic=Wasserstein(),
        tv_weight=2.0,
        tv="nine-point",
        padding="replicate",
    ),
    "course-composition": _course(5e-2, (20000.0, 500.0, 12.0, 1.0), 5e-2),
    "course-scream": _course(3e-2, (200000.0, 800.0, 12.0, 1.0), 2e-2),
    "course-starry-night": _course(6e-2, (300000.0, 1000.0, 15.0, 3.0), 2e-2),
    "course-inversion": _course(6e-2, (0.0, 0.0, 0.0, 0.0), 2e-2),
}


def find_preset(preset: str | Preset) -> Preset:
    """A preset by its name, or as it is."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise unknown("style preset", preset, PRESETS)
    return PRESETS[preset]
