"""A style transfer by tinynet and by its robust twin, side by side.

    python benchmarks/tinynet_pictures.py [--networks tinynet tinynet-robust] [--style picture] [-o docs/results]

Writes style_transfer.webp: `style_transfer` with the same settings for both networks, so that what differs is the
network. Class pictures are made by `benchmarks/imagine.py`.
"""

import argparse
from pathlib import Path

from torch import Tensor

import saccade
from saccade.pictures import centre_crop, read, resize, sample, sample_names, sheet, write
from saccade.style import style_transfer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["tinynet", "tinynet-robust"])
    parser.add_argument("--content", default="chelsea")
    parser.add_argument("--style", default="hubble")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    networks = {name: saccade.load(name) for name in arguments.networks}
    content, style = (load_picture(name) for name in (arguments.content, arguments.style))
    made = [style_transfer(content, style, network=network, precision="fp32")[0] for network in networks.values()]
    titles = ["content", "style", *(Path(name).stem for name in networks)]
    write(
        sheet([[content[0], style[0], *made]], column_titles=titles, cell=230),
        arguments.output / "style_transfer.webp",
        quality=88,
    )


def load_picture(name: str) -> Tensor:
    """A sample photograph or a file, 256 pixels square."""
    picture = sample(name) if name in sample_names() else read(name)
    return centre_crop(resize(picture, 256), 256)[None]


if __name__ == "__main__":
    main()
