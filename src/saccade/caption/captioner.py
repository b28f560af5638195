"""`Captioner`: a network that sees, a decoder that speaks, and all that belongs to them, in one object and one file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from saccade.caption.decode import Decoded, Memory, Rules, beam_search, sample
from saccade.caption.decoders import DECODERS
from saccade.caption.encoder import Encoder
from saccade.caption.text import END, Vocabulary
from saccade.engine.files import write_bytes
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.network import Network, read_weights
from saccade.networks.registry import build
from saccade.networks.zoo import load as load_network

SHIPPED = Path(__file__).parent / "weights"
"""The folder of the captioners inside the package: `<name>.safetensors` and its card `<name>.md`."""


@dataclass(frozen=True)
class Caption:
    """A sentence for a picture.

    words: as spoken. probability: of the whole sentence, its end included, in (0, 1]. attention: (T, h, w), for each
    word the shares of attention over the picture, summing to 1; None of a decoder that does not look.
    """

    words: tuple[str, ...]
    probability: float
    attention: Float[Tensor, "t h w"] | None = None

    def __str__(self) -> str:
        return " ".join(self.words)


class Captioner(nn.Module):
    """Sentences for pictures: encoder (a layer of a network), normalisation of its features, decoder, vocabulary.

    mean, std: of each channel of the features, (C,); the decoder sees (features - mean) / std. decoder: (name,
    keywords) of `DECODERS`. meta: whatever is known (recipe, metrics, licence). longest: words of a sentence, its END
    included.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        vocabulary: Vocabulary,
        decoder: tuple[str, Mapping[str, Any]],
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        longest: int = 20,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        name, options = decoder
        if name not in DECODERS:
            raise SaccadeError(f"There is no caption decoder {name!r}; there are {', '.join(DECODERS)}.")
        channels, *self.grid = encoder.shape
        self.network, self.layer, self.size = encoder.network, encoder.layer, encoder.size
        self.decoder = DECODERS[name](len(vocabulary), channels, **options)
        self.vocabulary, self.architecture, self.longest = vocabulary, (name, dict(options)), longest
        self.register_buffer("mean", torch.zeros(channels) if mean is None else mean.float())
        self.register_buffer("std", torch.ones(channels) if std is None else std.float())
        self.meta = dict(meta or {})

    @property
    def encoder(self) -> Encoder:
        """The eye."""
        return Encoder(self.network, self.layer, self.size)

    def remember(self, features: Float[Tensor, "n c ..."]) -> Memory:
        """What the decoder needs of features as the encoder gives them, (N, C, h, w) or pooled (N, C)."""
        if self.decoder.wants == "pooled" and features.ndim == 4:
            features = features.mean((2, 3))
        shape = (1, -1) + (1,) * (features.ndim - 2)
        return self.decoder.remember((features.to(self.mean) - self.mean.view(shape)) / self.std.view(shape))

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Memory:
        """Pictures in [0, 1] -> what the decoder remembers of them."""
        return self.remember(self.encoder(pictures))

    def caption(
        self,
        pictures: Sequence[Float[Tensor, "3 _ _"]],
        *,
        beam: int = 5,
        many: int = 1,
        length_penalty: float = 0.7,
        temperature: float | None = None,
        top_k: int = 0,
        top_p: float = 1.0,
        block: int = 3,
        unknown: bool = False,
        longest: int | None = None,
        generator: torch.Generator | None = None,
    ) -> list[list[Caption]]:
        """`many` sentences for each picture (any sizes, [0, 1]), best first.

        By beam search; with a `temperature` they are drawn instead, with `top_k` and `top_p` (see `sample`). block: no
        run of so many words comes twice, 0 to allow it. unknown: whether <UNK> may be said.
        """
        rules = Rules(unknown=unknown, block=block)
        with evaluating(self):
            parts = [self(self._fitted(picture)) for picture in pictures]
            memory = tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
            if not parts:
                return []
            if temperature is None:
                found = beam_search(
                    self.decoder,
                    memory,
                    beam=max(beam, many),
                    longest=longest or self.longest,
                    length_penalty=length_penalty,
                    rules=rules,
                    many=many,
                )
            else:
                found = sample(
                    self.decoder,
                    memory,
                    longest=longest or self.longest,
                    many=many,
                    temperature=temperature,
                    top_k=top_k,
                    top_p=top_p,
                    rules=rules,
                    generator=generator,
                )
        return [[self._spoken(decoded, row) for decoded in found] for row in range(len(pictures))]

    def _fitted(self, picture: Tensor) -> Tensor:
        """A picture as the encoder takes it; of any shape, as all of it is to be seen."""
        return picture.to(self.mean)[None].clamp(0, 1)

    def _spoken(self, decoded: Decoded, row: int) -> Caption:
        numbers = decoded.words[row, : int(decoded.lengths[row])].tolist()
        words = [self.vocabulary.words[number] for number in numbers if number != END]
        attention = None
        if decoded.attention is not None:
            attention = decoded.attention[row, : len(words)].view(len(words), *self.grid)
        return Caption(tuple(words), float(decoded.log_probability[row].double().exp()), attention)

    def save(self, path: str | Path, *, meta: Mapping[str, Any] | None = None, half: bool = False) -> None:
        """Write everything to one safetensors file, atomically. half: floating-point weights in 16 bits.

        Raises `SaccadeError` if the encoder's architecture is not one that `saccade.networks.build` knows.
        """
        if self.network.architecture is None:
            raise SaccadeError(
                f"Saving a captioner: its encoder {self.network.name} was not made by saccade.networks.build, so a "
                "file could not be loaded again."
            )
        state = {
            key: value.detach()
            .to("cpu", torch.float16 if half and value.is_floating_point() else value.dtype)
            .contiguous()
            for key, value in self.state_dict().items()
        }
        name, keywords = self.network.architecture
        description = {
            "format": 1,
            "kind": "captioner",
            "encoder": {
                "name": self.network.name,
                "architecture": {"name": name, "keywords": dict(keywords)},
                "mean": self.network.mean.flatten().tolist(),
                "std": self.network.std.flatten().tolist(),
                "classes": self.network.classes,
                "input_size": self.network.input_size,
                "layer": self.layer,
                "size": self.size,
            },
            "decoder": {"name": self.architecture[0], "keywords": self.architecture[1]},
            "words": self.vocabulary.words,
            "longest": self.longest,
            "meta": {
                **self.meta,
                **(meta or {}),
                "versions": {"saccade": version("saccade"), "torch": torch.__version__},
            },
        }
        write_bytes(path, save(state, metadata={"saccade": json.dumps(description)}))

    @classmethod
    def load(cls, source: str | Path) -> "Captioner":
        """A captioner by the name of one that ships ("tinynet-flickr8k"), or from a file that `save` wrote.

        It comes in evaluation mode, in float32. Raises `SaccadeError` if there is no such thing.
        """
        shipped = shipped_captioners()
        path = shipped.get(str(source)) or Path(source)
        if not path.exists():
            names = ", ".join(shipped) or "none ship with this version"
            raise SaccadeError(
                f"There is no captioner {str(source)!r}: neither a file nor one of those that ship ({names})."
            )
        description, state = read_weights(path)
        if description is None or description.get("kind") != "captioner":
            raise SaccadeError(f"{path} holds no captioner; `saccade caption train` makes one.")
        try:
            eye = description["encoder"]
            network = Network(
                build(eye["architecture"]["name"], **eye["architecture"]["keywords"]),
                mean=eye["mean"],
                std=eye["std"],
                classes=eye["classes"],
                input_size=eye["input_size"],
                name=eye["name"],
                architecture=(eye["architecture"]["name"], eye["architecture"]["keywords"]),
            )
            captioner = cls(
                Encoder(network, eye["layer"], eye["size"]),
                Vocabulary(tuple(description["words"])),
                (description["decoder"]["name"], description["decoder"]["keywords"]),
                longest=description["longest"],
                meta=description["meta"],
            )
            captioner.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except (KeyError, TypeError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise SaccadeError(f"{path} is no whole captioner ({first}); it may be of another version.") from error
        return captioner.eval()


def shipped_captioners() -> dict[str, Path]:
    """The captioners inside the package: name to file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def make_encoder(network: str | Path | Network, *, layer: str = "", size: int = 0) -> Encoder:
    """The encoder of a network given by name, file or itself; see `Encoder.of`."""
    found = network if isinstance(network, Network) else load_network(str(network))
    return Encoder.of(found, layer=layer or None, size=size or None)
