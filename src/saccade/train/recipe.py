"""A recipe: every decision of a training run in one frozen value."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from saccade.data.augment import Augment
from saccade.errors import SaccadeError


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, how. Each field can be given on the command line as `--field value`.

    Sizes are pixels, durations epochs, eps in units of the picture's range [0, 1].
    """

    name: str
    network: str  # an architecture of `saccade.networks.build`
    data: str  # a data set of `saccade.data.load`, or a folder
    options: Mapping[str, Any] = field(default_factory=dict)  # keywords of the architecture
    start: str = ""  # a network of the zoo, or a file, whose weights to start from

    size: int = 0  # side of the stored pictures, 0 for the data's own
    sizes: tuple[int, ...] = ()  # side of the training pictures epoch by epoch; the last one stays
    val: float = -1.0  # training pictures kept for validation: a share, or from 1 a number; negative: the data's own
    count: int = 0  # use only so many training pictures, 0 for all

    epochs: int = 10
    batch_size: int = 128
    optimiser: Literal["sgd", "adamw", "muon"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    decay_all: bool = False  # weight decay also on biases and norms, as plain PyTorch does
    decoupled: bool = False  # lr and weight_decay are per 1024 pictures and independent (Jordan 2024)
    muon_lr: float = 0.12  # of the convolutions under "muon"; `lr` then holds for the rest
    bias_lr: float = 1.0  # factor on the learning rate of batch norm's shifts
    clip: float = 0.0  # largest norm of the gradient, 0 for no limit

    schedule: Literal["one-cycle", "cosine", "linear", "step", "constant"] = "one-cycle"
    warmup: float = 0.2  # share of the steps during which the learning rate rises
    start_factor: float = 0.0  # learning rate at the first step, as a share of the peak
    end_factor: float = 0.0  # and at the last
    milestones: tuple[float, ...] = ()  # "step": epochs at which the learning rate is divided by ten

    flip: Literal["none", "random", "alternating"] = "random"
    translate: int = 0
    cutout: int = 0
    crop: float = 1.0  # least share of the area that a random resized crop keeps
    uncropped: int = 0  # in the last so many epochs none is cropped: objects as large as when measured (FixRes)
    mixup: float = 0.0  # alpha of the Beta distribution, 0 for none
    cutmix: float = 0.0
    label_smoothing: float = 0.0

    ema: float = 0.0  # half-life of the averaged weights in epochs, 0 for none
    lookahead: bool = False
    whiten: bool = False  # set the frozen first layer from patches of the data (the fast network)
    whiten_bias_epochs: int = 3  # its bias is trained for so many epochs

    adversarial: Literal["none", "linf", "l2"] = "none"
    eps: float = 0.0
    attack_steps: int = 1

    tta: Literal["none", "flip", "six"] = "none"  # test-time augmentation, reported beside the plain figure
    patience: int = 0  # stop after so many epochs without a better validation accuracy, 0 for never
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for key, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, key) not in get_args(kind):
                given, names = getattr(self, key), ", ".join(get_args(kind))
                raise SaccadeError(f"Recipe {self.name}: {key} must be one of {names}, got {given!r}.")
        checks = {
            "epochs must be 1 or more": self.epochs >= 1,
            "batch_size must be 1 or more": self.batch_size >= 1,
            "lr must be above zero": self.lr > 0,
            "momentum must be in [0, 1)": 0 <= self.momentum < 1,
            "weight_decay must be 0 or more": self.weight_decay >= 0,
            "warmup must be in [0, 1)": 0 <= self.warmup < 1,
            "start_factor and end_factor must be 0 or more": min(self.start_factor, self.end_factor) >= 0,
            "mixup and cutmix must be 0 or more": min(self.mixup, self.cutmix) >= 0,
            "label_smoothing must be in [0, 1)": 0 <= self.label_smoothing < 1,
            "ema, clip and patience must be 0 or more": min(self.ema, self.clip, self.patience) >= 0,
            "uncropped must be 0 or more": self.uncropped >= 0,
            "attack_steps must be 1 or more": self.attack_steps >= 1,
            "eps must be above zero where adversarial is set": self.adversarial == "none" or self.eps > 0,
        }
        for message, holds in checks.items():
            if not holds:
                raise SaccadeError(f"Recipe {self.name}: {message}.")

    @property
    def augment(self) -> Augment:
        """The changes of training pictures, as the data pipeline takes them."""
        return Augment(flip=self.flip, translate=self.translate, cutout=self.cutout, crop=self.crop)

    def size_at(self, epoch: int) -> int | None:
        """Side of the training pictures in `epoch`; None for that of the data."""
        if not self.sizes:
            return self.size or None
        return self.sizes[min(epoch, len(self.sizes) - 1)]

    def crop_at(self, epoch: int) -> float:
        """Least share of the area that a crop keeps in `epoch`.

        A random crop, enlarged, shows its objects larger than they will be in a whole picture; a few last epochs
        without it let the network get used to their true size (Touvron et al. 2019, arXiv:1906.06423).
        """
        return self.crop if epoch < self.epochs - self.uncropped else 1.0

    @property
    def final_size(self) -> int | None:
        """Side of the pictures in the last epoch, at which the network is measured; None for that of the data."""
        return self.sizes[-1] if self.sizes else self.size or None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `as_dict`."""
        unknown = sorted(values.keys() - get_type_hints(cls).keys())
        if unknown:
            raise SaccadeError(f"A recipe has no field {unknown[0]!r}; it may be from another version of Saccade.")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def override(self, changes: Mapping[str, str]) -> "Recipe":
        """This recipe with fields replaced by values given as text, each checked against the field's type."""
        hints = get_type_hints(type(self))
        parsed = {}
        for key, text in changes.items():
            name = key.replace("-", "_")
            if name not in hints:
                raise SaccadeError(f"A recipe has no field {key!r}; its fields are {', '.join(hints)}.")
            parsed[name] = _parse(key, text, hints[name])
        return dataclasses.replace(self, **parsed)


def _parse(key: str, text: str, kind: Any) -> Any:
    """`text` as a value of type `kind`."""
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            top, slash, bottom = text.partition("/")  # as in --eps 8/255
            return float(top) / float(bottom) if slash else float(text)
        if kind is str:
            return text
        if getattr(kind, "__origin__", None) is Literal:
            if text not in kind.__args__:
                raise ValueError
            return text
        if getattr(kind, "__origin__", None) is tuple:
            return tuple(kind.__args__[0](part) for part in text.split(",") if part)
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError
        return value
    except (ValueError, KeyError, ZeroDivisionError) as error:
        expected = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind)
        if getattr(kind, "__origin__", None) is Literal:
            expected = "one of " + ", ".join(kind.__args__)
        elif getattr(kind, "__origin__", None) is tuple:
            expected = "numbers separated by commas"
        raise SaccadeError(f"--{key} got {text!r}; {expected or 'a JSON object'} is expected.") from error
