"""The recipe of a captioner: every decision of its training in one frozen value, and the recipes that come along."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from saccade.engine.settings import Settings
from saccade.networks.registry import unknown


@dataclass(frozen=True)
class CaptionRecipe(Settings):
    """What to train, on what, how. Each field can be given on the command line as `--field value`.

    Sizes are pixels, durations epochs, lengths words.
    """

    name: str
    data: str  # a data set of `saccade.caption.load_captions`
    network: str = "tinynet"  # the encoder: a network of the zoo, or a file
    layer: str = ""  # whose features are read, by default the last that is a map
    size: int = 0  # side at which the encoder sees pictures, by default its own
    stored: int = 192  # side at which pictures are kept
    fit: Literal["squash", "crop", "pad"] = "squash"
    normalise: bool = True  # features to mean 0 and spread 1 by channel
    fine_tune: float = 0.0  # learning rate of the encoder, as a share of the decoder's; 0 leaves it as it is
    mirror: bool = False  # half of the pictures mirrored in training; for captions that know no left and right

    decoder: str = "attention"
    options: Mapping[str, Any] = field(default_factory=dict)  # keywords of the decoder
    minimum: int = 5  # a word that occurs less often is unknown
    longest: int = 20  # words of a sentence, its end included; longer captions are cut

    count: int = 0  # use only so many training pictures, 0 for all
    val: int = 0  # validate on only so many pictures, 0 for all
    epochs: int = 10
    batch_size: int = 32  # pictures
    captions: int = 5  # sentences of each in a step
    loss: Literal["token", "sequence"] = "token"  # mean over words, or (the course) sum over words by sentences
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: Literal["one-cycle", "cosine", "linear", "step", "constant"] = "cosine"
    warmup: float = 0.05
    start_factor: float = 0.0
    end_factor: float = 0.0
    milestones: tuple[float, ...] = ()
    clip: float = 5.0  # largest norm of the gradient, 0 for no limit
    label_smoothing: float = 0.0
    scheduled_sampling: float = 0.0  # share of words replaced by the decoder's own guesses in the last epoch
    doubly_stochastic: float = 0.0  # weight of the wish to look everywhere once (show, attend and tell)
    fresh: int = 0  # of scenes: so many last epochs see new ones each, with the most complete sentence of each alone
    fresh_lr: float = 5e-4  # from which the schedule begins again then
    reinforce: int = 0  # so many last epochs maximise CIDEr itself, by self-critical training
    reinforce_lr: float = 5e-5
    samples: int = 5  # sentences drawn for each picture then

    patience: int = 0  # stop after so many epochs without a better CIDEr, 0 for never
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # "auto" takes bf16 where it is faster

    def __post_init__(self) -> None:
        self.check_choices()
        self.demand(
            {
                "epochs, batch_size, captions and minimum must be 1 or more": min(
                    self.epochs, self.batch_size, self.captions, self.minimum
                )
                >= 1,
                "longest must be 2 or more": self.longest >= 2,
                "lr, fresh_lr and reinforce_lr must be above zero": min(self.lr, self.fresh_lr, self.reinforce_lr) > 0,
                "fine_tune, weight_decay, clip, doubly_stochastic and patience must be 0 or more": min(
                    self.fine_tune, self.weight_decay, self.clip, self.doubly_stochastic, self.patience
                )
                >= 0,
                "label_smoothing, scheduled_sampling and warmup must be in [0, 1)": all(
                    0 <= share < 1 for share in (self.label_smoothing, self.scheduled_sampling, self.warmup)
                ),
                "reinforce must be from 0 to epochs": 0 <= self.reinforce <= self.epochs,
                "fresh must be from 0 to epochs": 0 <= self.fresh <= self.epochs,
                "fresh and reinforce cannot go together, give one of them": not (self.fresh and self.reinforce),
                "fresh needs data scenes and fine_tune: only scenes are without end, and a fixed encoder sees each "
                "picture once": not self.fresh or (self.data == "scenes" and self.fine_tune > 0),
                "samples must be 2 or more": self.samples >= 2,
                "mirror needs fine_tune: a fixed encoder sees each picture once": not self.mirror or self.fine_tune > 0,
            }
        )


# The course's three networks and settings (EECS 498-007, assignment 4, part 2).
_COURSE = CaptionRecipe(
    "course-rnn",
    "flickr8k",
    decoder="rnn",
    options={"wordvec_dim": 256, "hidden_dim": 512},
    longest=16,
    epochs=60,
    batch_size=250,
    captions=1,
    loss="sequence",
    schedule="constant",
    warmup=0.0,
    clip=0.0,
)

_ATTENTION = CaptionRecipe(
    "attention",
    "flickr8k",
    decoder="show-attend-tell",
    epochs=14,
    lr=8e-4,
    label_smoothing=0.1,
    doubly_stochastic=0.01,
    patience=4,
)

# The captioner that ships: small, so that all of it fits into 8 MB; its eye starts as tinynet and learns, too.
_TINYNET = replace(
    _ATTENTION,
    name="tinynet-flickr8k",
    size=128,
    normalise=False,
    fine_tune=0.1,
    mirror=True,
    epochs=12,
    minimum=8,
    options={"wordvec_dim": 112, "hidden_dim": 192, "attention_dim": 96, "dropout": 0.3},
    lr=2e-3,
)

# Generated scenes: the encoder learns with the decoder, which may look where it likes. After twelve epochs the 40,000
# scenes are known by heart (of their captions 97 % are true, of other scenes' 92 %), so the last nine see new ones.
_SCENES = replace(
    _ATTENTION,
    name="scenes",
    data="scenes",
    layer="stage3.unit2",
    size=64,
    stored=64,
    normalise=False,
    fine_tune=0.3,
    minimum=1,
    options={"wordvec_dim": 128, "hidden_dim": 256, "attention_dim": 128, "dropout": 0.0, "positions": True},
    count=40_000,
    epochs=21,
    fresh=9,
    fresh_lr=1e-3,
    batch_size=64,
    lr=2e-3,
    clip=1.0,
    label_smoothing=0.0,
    doubly_stochastic=0.0,
    patience=0,
)

_ALL = (
    _ATTENTION,
    _TINYNET,
    _SCENES,
    _COURSE,
    replace(_COURSE, name="course-lstm", decoder="lstm"),
    replace(_COURSE, name="course-attention", decoder="attention"),
)
CAPTION_RECIPES: dict[str, CaptionRecipe] = {recipe.name: recipe for recipe in _ALL}
"""The recipes by name."""


def find_caption_recipe(name: str) -> CaptionRecipe:
    """The recipe called `name`; raises `SaccadeError` with the names there are."""
    if name not in CAPTION_RECIPES:
        raise unknown("caption recipe", name, CAPTION_RECIPES)
    return CAPTION_RECIPES[name]
