"""Give pictures a style with a network: tensors, files, folders and numbered frames, of any size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.data.decode import is_picture
from saccade.engine.guards import evaluating
from saccade.errors import SaccadeError
from saccade.networks.targets import check_input
from saccade.pictures import resize
from saccade.pictures.io import WRITABLE
from saccade.pictures.original import read_original, write_like
from saccade.style.fast.network import FastStyle, Style, load_fast
from saccade.style.fast.transformer import shared_statistics

MOST = 4 * 2**20
"""Pixels that are restyled at once; larger pictures are done in tiles."""


def apply_fast(
    network: FastStyle | str | Path,
    pictures: Float[Tensor, "n 3 h w"],
    *,
    style: Style = None,
    most: int = MOST,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Float[Tensor, "n 3 h w"]:
    """Pictures in a style, on the device of the pictures' network and of their size and dtype.

    Pictures of more than `most` pixels are computed in tiles that overlap by all that an output pixel sees. All tiles
    are normalised by the same means and variances, so their edges do not show. These are measured on a copy of the
    picture reduced to `most` pixels, which makes the result differ from that of a single pass, the more the smaller the
    copy is: its patches of colour may lie elsewhere.

    Args:
        network: or the name of one that ships, or a file.
        pictures: in [0, 1].
        style: one of the network's, by number or name, or the share of each; the first if not given.
        precision: "bf16" takes about a quarter less time on processors that have it; a pixel is off by 0.4/255 in the
            mean, by 2/255 in one of a hundred.

    Raises:
        SaccadeError: there is no such network or style, or the pictures are none.
    """
    network = network if isinstance(network, FastStyle) else load_fast(network)
    check_input(pictures, "restyle pictures")
    device = next(network.parameters()).device
    made = []
    with evaluating(network), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for picture in torch.split(pictures.to(device).float(), 1):
            whole = picture.shape[2] * picture.shape[3] <= most
            made.append((network(picture, style) if whole else _tiled(network, picture, style, most)).to(pictures))
    return torch.cat(made)


def _tiled(network: FastStyle, picture: Float[Tensor, "1 3 h w"], style: Style, most: int) -> Float[Tensor, "1 3 h w"]:
    shares = network.shares(style).to(picture)[None]
    h, w = picture.shape[2:]
    halo = network.net.halo
    side = max(64, int(most**0.5) // 4 * 4 - 2 * halo)
    out = torch.empty_like(picture)
    with shared_statistics(network.net, _reduced(picture, most), shares):
        for top in range(0, h, side):
            for left in range(0, w, side):
                above, before = max(0, top - halo), max(0, left - halo)  # multiples of 4, as the layers halve twice
                piece = picture[:, :, above : top + side + halo, before : left + side + halo]
                made = network.net(piece, shares)[:, :, top - above :, left - before :]
                out[:, :, top : top + side, left : left + side] = made[:, :, :side, :side]
    return out


def _reduced(picture: Float[Tensor, "1 3 h w"], most: int) -> Float[Tensor, "1 3 a b"]:
    """The picture with at most `most` pixels."""
    h, w = picture.shape[2:]
    scale = min(1.0, (most / (h * w)) ** 0.5)
    return resize(picture, (max(1, int(h * scale)), max(1, int(w * scale))))


@dataclass(frozen=True)
class Restyled:
    """What became of one file. written: False if the target was there already."""

    source: Path
    target: Path
    written: bool


def restyle_files(
    network: FastStyle | str | Path,
    sources: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    style: Style = None,
    size: int | None = None,
    suffix: str | None = None,
    keep_grey: bool = False,
    overwrite: bool = False,
    most: int = MOST,
    precision: Literal["fp32", "bf16"] = "fp32",
    callback: Callable[[Restyled], None] | None = None,
) -> Iterator[Restyled]:
    """Restyle files one by one: one in, one out, in the memory of one picture, however many frames there are.

    A generator: nothing is done before it is asked for. Files whose target exists are skipped, so a run that was
    stopped goes on where it was; targets are written whole or not at all. Transparency, 16 bits and colour profile are
    kept as `write_like` does.

    Args:
        network: or the name of one that ships, or a file.
        sources: a folder (its pictures in the order of their names, not those of folders inside), a file, or files.
        folder: for the targets, which keep their names.
        style, most, precision: see `apply_fast`.
        size: the shorter side of the results; that of the source if not given.
        suffix: of the results, such as ".png"; that of the source if not given, or .png if it cannot be written.
        keep_grey: grey pictures stay grey, in the style's strokes without its colours.
        overwrite: do files anew.
        callback: called after each file.

    Raises:
        SaccadeError: there is no picture, or two have the same target, or one would be written over; a file is damaged.
    """
    network = network if isinstance(network, FastStyle) else load_fast(network)
    for source, target in pairs(sources, folder, suffix):
        done = Restyled(source, target, overwrite or not target.exists())
        if done.written:
            original = read_original(source)
            colour = original.colour[None] if size is None else resize(original.colour[None], size)
            made = apply_fast(network, colour, style=style, most=most, precision=precision)[0]
            write_like(made.cpu(), target, original, keep_grey=keep_grey)
        if callback is not None:
            callback(done)
        yield done


def pairs(
    sources: str | Path | Sequence[str | Path], folder: str | Path, suffix: str | None = None
) -> list[tuple[Path, Path]]:
    """Each source with its target. Raises `SaccadeError` as `restyle_files` does."""
    if isinstance(sources, str | Path):
        only = Path(sources).expanduser()
        files = sorted(p for p in only.iterdir() if is_picture(p.name)) if only.is_dir() else [only]
    else:
        files = [Path(source).expanduser() for source in sources]
    if not files:
        raise SaccadeError(f"Could not restyle {sources}: there are no pictures in it.")
    found: dict[Path, Path] = {}
    for source in files:
        ending = suffix or (source.suffix if source.suffix.lower() in WRITABLE else ".png")
        target = Path(folder).expanduser() / f"{source.stem}{ending}"
        if target in found:
            raise SaccadeError(f"Could not restyle files: {found[target]} and {source} would both become {target}.")
        if target.resolve() == source.resolve():
            raise SaccadeError(f"Could not restyle {source}: the result would replace it; choose another folder.")
        found[target] = source
    return [(source, target) for target, source in found.items()]
