"""The table of the attacks: one line each. A new one is a file and a line here, or only other settings of the loop.

Settings are those of the papers at a budget of 8/255, with steps that follow it where it is another. Attacks made to
transfer to other networks make all their steps, fooled or not; `stop=True` ends them early.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from saccade.attack.apgd import apgd
from saccade.attack.autoattack import autoattack
from saccade.attack.balls import NORMS
from saccade.attack.boundary import boundary
from saccade.attack.carlini_wagner import carlini_wagner
from saccade.attack.ddn import ddn
from saccade.attack.deepfool import deepfool
from saccade.attack.elastic_net import elastic_net
from saccade.attack.engine import Result
from saccade.attack.fab import fab
from saccade.attack.fmn import fmn
from saccade.attack.gradient_attack import gradient_attack
from saccade.attack.hop_skip_jump import hop_skip_jump
from saccade.attack.jsma import jsma
from saccade.attack.linear import linear_attack
from saccade.attack.losses import Tempered
from saccade.attack.noise import gaussian_noise
from saccade.attack.one_pixel import one_pixel
from saccade.attack.pixle import pixle
from saccade.attack.sigma_zero import sigma_zero
from saccade.attack.simba import simba
from saccade.attack.sparsefool import sparsefool
from saccade.attack.spatial import spatial
from saccade.attack.spread import Patchwise, gaussian_kernel
from saccade.attack.spsa import nes, spsa
from saccade.attack.square import square
from saccade.attack.views import Diverse, Noise, Repeats, Scales
from saccade.attack.zoo import zoo
from saccade.errors import SaccadeError
from saccade.networks.targets import Target


@dataclass(frozen=True)
class Attack:
    """An attack, and the settings it is made with.

    function: (network, pictures, labels, **settings) -> `Result`. paper: arXiv number or another reference. norms: what
    it can be asked for. targeted: takes `targets=`. linear: fools linear networks wherever a budget allows it.
    settings: other than the function's own. note: what its user must know.
    """

    name: str
    title: str
    function: Callable[..., Result]
    paper: str
    norms: tuple[str, ...] = ("linf", "l2", "l1")
    targeted: bool = True
    linear: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __call__(self, network: nn.Module, pictures: Tensor, labels: Target, **settings: Any) -> Result:
        """Attack pictures (N, C, H, W) in [0, 1]; `settings` count before its own."""
        return self.function(network, pictures, labels, **self.set(**settings).settings)

    def set(self, **settings: Any) -> "Attack":
        """The same attack with other settings; raises `SaccadeError` for one that it does not have."""
        known = [p.name for p in inspect.signature(self.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for name in settings:
            if name not in known or (name == "targets" and not self.targeted):
                raise SaccadeError(f"{self.title} has no setting {name!r}; it has {', '.join(known)}.")
        return replace(self, settings={**self.settings, **settings})


def _climb(name: str, title: str, paper: str, *, note: str = "", **settings: Any) -> Attack:
    """A setting of the loop."""
    flags = {key: settings.pop(key) for key in ("norms", "targeted") if key in settings}
    linear = settings.pop("linear", True)
    own = {"name": title, **settings}
    return Attack(name, title, gradient_attack, paper, linear=linear, settings=own, note=note, **flags)


_ONCE: dict[str, Any] = {"steps": 1, "stride": 1.0, "start": "picture"}
_EVEN: dict[str, Any] = {"stride": 1.0, "start": "picture", "stop": False}
_MOMENTUM: dict[str, Any] = {**_EVEN, "momentum": 1.0}
_LINF: dict[str, Any] = {"norms": ("linf",)}
_PATCHES: dict[str, Any] = {**_LINF, **_EVEN, "eps": 16 / 255, "linear": False}
_KERNEL = gaussian_kernel(15, 3.0)
_RANDOM = "made for networks that are not deterministic; success is judged by one pass"

_APGD, _FAB, _CW, _EAD = "arXiv:2003.01690", "arXiv:1907.02044", "arXiv:1608.04644", "arXiv:1709.04114"

_LIST = [
    _climb("fgsm", "FGSM", "arXiv:1412.6572", **_ONCE),
    _climb("r-fgsm", "R+FGSM", "arXiv:1705.07204", steps=1, stride=0.5, start="signs", linear=False, **_LINF),
    _climb("ff-gsm", "FFGSM", "arXiv:2001.03994", steps=1, stride=1.25, linear=False),
    _climb("bim", "BIM", "arXiv:1607.02533", stride=1.25, start="picture"),
    _climb("pgd", "PGD", "arXiv:1706.06083"),
    _climb("pgd-l2", "PGD-L2", "arXiv:1706.06083", norm="l2", norms=("l2",)),
    _climb("pgd-l1", "PGD-L1", "arXiv:1706.06083", norm="l1", norms=("l1",), stride=5.0, steps=40),
    _climb("eot-pgd", "EOT-PGD", "arXiv:1907.00895", views=(Repeats(2),), note=_RANDOM),
    _climb("tpgd", "TPGD", "arXiv:1901.08573", loss="kl", start="near", targeted=False, linear=False),
    _climb("upgd", "UPGD", "arXiv:1706.06083", start="picture", momentum=1.0, loss="margin"),
    _climb("jitter", "Jitter", "arXiv:2105.10304", loss="jitter", linear=False),
    _climb("pgd-rs", "PGD-RS", "arXiv:1906.04584", views=(Noise(5, 0.5),), pooled=True, note="smoothed by its noise"),
    _climb("mi-fgsm", "MI-FGSM", "arXiv:1710.06081", **_MOMENTUM),
    _climb("ni-fgsm", "NI-FGSM", "arXiv:1908.06281", nesterov=True, **_MOMENTUM),
    _climb("si-ni-fgsm", "SI-NI-FGSM", "arXiv:1908.06281", nesterov=True, views=(Scales(5),), **_MOMENTUM),
    _climb("vmi-fgsm", "VMI-FGSM", "arXiv:2103.15571", neighbours=5, **_MOMENTUM),
    _climb("vni-fgsm", "VNI-FGSM", "arXiv:2103.15571", neighbours=5, nesterov=True, **_MOMENTUM),
    _climb("di-fgsm", "DI2-FGSM", "arXiv:1803.06978", views=(Diverse(),), linear=False, **_EVEN),
    _climb("m-di-fgsm", "M-DI2-FGSM", "arXiv:1803.06978", views=(Diverse(),), linear=False, **_MOMENTUM),
    _climb("ti-fgsm", "TI-FGSM", "arXiv:1904.02884", kernel=_KERNEL, linear=False, **_ONCE),
    _climb("ti-mi-fgsm", "TI-MI-FGSM", "arXiv:1904.02884", kernel=_KERNEL, linear=False, **_MOMENTUM),
    _climb("ti-dim", "TI-DIM", "arXiv:1904.02884", kernel=_KERNEL, views=(Diverse(),), linear=False, **_MOMENTUM),
    _climb("pi-fgsm", "PI-FGSM", "arXiv:2007.06765", patchwise=Patchwise(), **_PATCHES),
    _climb(
        "pi-fgsm-plus-plus",
        "PI-FGSM++",
        "arXiv:2012.15503",
        patchwise=Patchwise(share=0.8),
        loss=Tempered(1.5),
        **_PATCHES,
    ),
    Attack(
        "linear", "the exact linear attack", linear_attack, "adversarial-ml-tutorial.org", targeted=False, linear=True
    ),
    Attack("apgd-ce", "APGD-CE", apgd, _APGD),
    Attack("apgd-dlr", "APGD-DLR", apgd, _APGD, settings={"loss": "dlr"}),
    Attack("apgd-t", "APGD-T", apgd, _APGD, targeted=False, settings={"loss": "dlr", "classes": 9}),
    Attack("fab", "FAB", fab, _FAB),
    Attack("fab-t", "FAB-T", fab, _FAB, targeted=False, settings={"classes": 9}),
    Attack("square", "Square", square, "arXiv:1912.00049"),
    Attack("autoattack", "AutoAttack", autoattack, _APGD, targeted=False),
    Attack("ddn", "DDN", ddn, "arXiv:1811.09600", ("l2",)),
    Attack("fmn", "FMN", fmn, "arXiv:2102.12827", (*NORMS, "l0")),
    Attack("deepfool", "DeepFool", deepfool, "arXiv:1511.04599", ("l2", "linf"), targeted=False),
    Attack("cw-l2", "CW-L2", carlini_wagner, _CW, ("l2",), settings={"norm": "l2"}),
    Attack("cw-linf", "CW-Linf", carlini_wagner, _CW, ("linf",), settings={"norm": "linf"}),
    Attack("cw-l0", "CW-L0", carlini_wagner, _CW, ("l0",), settings={"norm": "l0"}),
    Attack("ead-l1", "EAD (L1)", elastic_net, _EAD, ("l1",)),
    Attack("ead-en", "EAD (EN)", elastic_net, _EAD, ("l1",), settings={"rule": "en"}),
    Attack("sigma-zero", "sigma-zero", sigma_zero, "arXiv:2402.01879", ("l0",)),
    Attack("sparsefool", "SparseFool", sparsefool, "arXiv:1811.02248", ("l0", "l1"), targeted=False),
    Attack("jsma", "JSMA", jsma, "arXiv:1511.07528", ("l0",)),
    Attack("spsa", "SPSA", spsa, "arXiv:1802.05666", ("linf", "l2")),
    Attack("nes", "NES", nes, "arXiv:1804.08598", ("linf", "l2")),
    Attack("simba", "SimBA", simba, "arXiv:1905.07121", ("l2",)),
    Attack("simba-dct", "SimBA-DCT", simba, "arXiv:1905.07121", ("l2",), settings={"basis": "dct"}),
    Attack("zoo", "ZOO", zoo, "arXiv:1708.03999", ("l2",)),
    Attack("one-pixel", "one pixel", one_pixel, "arXiv:1710.08864", ("l0",)),
    Attack("pixle", "Pixle", pixle, "arXiv:2202.02236", ("l0",)),
    Attack("boundary", "Boundary Attack", boundary, "arXiv:1712.04248", ("l2",)),
    Attack("hop-skip-jump", "HopSkipJump", hop_skip_jump, "arXiv:1904.02144", ("l2", "linf")),
    Attack("spatial", "rotations and shifts", spatial, "arXiv:1712.02779", ("l2",)),
    Attack("noise", "Gaussian noise", gaussian_noise, "what every attack must beat", ("l2",)),
]
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _LIST}
"""The attacks by name."""

fgsm, pgd = ATTACKS["fgsm"], ATTACKS["pgd"]


def PGD(**settings: Any) -> Attack:
    """PGD with settings of one's own, to be called on many networks and pictures: PGD(eps=8/255)(network, x, y)."""
    return pgd.set(**settings)


def find_attack(name: str) -> Attack:
    """An attack by its name (case, spaces and underscores do not matter); raises `SaccadeError` with all there are."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain not in ATTACKS:
        raise SaccadeError(f"There is no attack {name!r}; there are {', '.join(ATTACKS)}.")
    return ATTACKS[plain]
