"""A recipe: every decision of a training run in one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from saccade.data.augment import Augment
from saccade.engine.settings import Settings


@dataclass(frozen=True)
class Recipe(Settings):
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

    noise: float = 0.0  # deviation of normal noise added to each value, not clamped: for randomised smoothing

    adversarial: Literal["none", "linf", "l2"] = "none"
    eps: float = 0.0
    attack_steps: int = 1  # 1 is Fast-AT, more is PGD-AT; "free": replays of each batch, every one an update
    defence: Literal["at", "free", "trades", "mart", "ibp"] = "at"  # "ibp": no attack, but bounds on all there could be
    beta: float = 6.0  # "trades", "mart": weight of the divergence between perturbed and clean
    ramp: float = 0.5  # "ibp": share of the steps over which eps and the weight of the bounds rise from 0
    clean_weight: float = 0.5  # "ibp": weight of the plain loss from then on
    awp: float = 0.0  # adversarial weight perturbation: its length as a share of each weight matrix's; 0 for none

    tta: Literal["none", "flip", "six"] = "none"  # test-time augmentation, reported beside the plain figure
    patience: int = 0  # stop after so many epochs without a better one, as `validate.measure_of` judges; 0 for never
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_choices()
        plain = self.defence == "at"
        self.demand(
            {
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
                "noise must be 0 or more": 0 <= self.noise < float("inf"),
                "noise needs adversarial to be none": self.noise == 0 or self.adversarial == "none",
                "uncropped must be 0 or more": self.uncropped >= 0,
                "attack_steps must be 1 or more": self.attack_steps >= 1,
                "eps must be above zero where adversarial is set": self.adversarial == "none" or self.eps > 0,
                "beta and awp must be 0 or more": min(self.beta, self.awp) >= 0,
                f"defence {self.defence} needs adversarial to be linf or l2": plain or self.adversarial != "none",
                f"defence {self.defence} takes no mixup, cutmix or label_smoothing": plain
                or max(self.mixup, self.cutmix, self.label_smoothing) == 0,
                "defence ibp needs adversarial to be linf": self.defence != "ibp" or self.adversarial != "l2",
                "ramp and clean_weight must be in [0, 1]": min(self.ramp, self.clean_weight) >= 0
                and max(self.ramp, self.clean_weight) <= 1,
                "awp does not go with defence free, which has no second look at a batch": self.defence != "free"
                or self.awp == 0,
            }
        )

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
