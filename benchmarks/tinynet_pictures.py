"""A style transfer by tinynet and by its robust twin, side by side.

    python benchmarks/tinynet_pictures.py [--networks tinynet tinynet-robust] [--style picture] [-o docs/results]

Writes style_transfer.webp: Gatys et al. 2016 with Adam, with the same settings for both networks, so that what differs
is the network. Class pictures are made by `benchmarks/imagine.py`.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import saccade
from saccade.engine.guards import frozen
from saccade.networks import Network
from saccade.pictures import centre_crop, read, resize, sample, sample_names, sheet, write


def restyle(network: Network, content: Tensor, style: Tensor, *, steps: int = 250, style_weight: float = 3.0) -> Tensor:
    """Gatys et al. 2016 on the first ReLU of each stage: content (1, 3, H, W) in the style of a picture."""
    taps = ["stem", *(f"stage{i}.unit1" for i in range(1, 5))]
    found: list[Tensor] = []
    hooks = [network.layer(tap).register_forward_hook(lambda module, given, out: found.append(out)) for tap in taps]

    def features(picture: Tensor) -> list[Tensor]:
        found.clear()
        network(picture)
        return list(found)

    def gram(feature: Tensor) -> Tensor:
        flat = feature[0].flatten(1)
        return flat @ flat.T / flat.shape[1]

    try:
        with frozen(network):
            with torch.no_grad():
                wanted = features(content)[3]
                grams = [gram(feature) for feature in features(style)]
            picture = content.clone().requires_grad_()
            optimiser = torch.optim.Adam([picture], lr=0.02)
            for _ in range(steps):
                now = features(picture)
                loss = (now[3] - wanted).square().mean() / wanted.square().mean()
                for feature, target in zip(now, grams, strict=True):
                    loss = loss + style_weight * (gram(feature) - target).square().mean() / target.square().mean()
                loss = loss + 2.0 * (picture.diff(dim=2).square().mean() + picture.diff(dim=3).square().mean())
                optimiser.zero_grad()
                (picture.grad,) = torch.autograd.grad(loss, picture)
                optimiser.step()
                with torch.no_grad():
                    picture.clamp_(0, 1)
    finally:
        for hook in hooks:
            hook.remove()
    return picture.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["tinynet", "tinynet-robust"])
    parser.add_argument("--content", default="chelsea")
    parser.add_argument("--style", default="hubble")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    networks = {name: saccade.load(name) for name in arguments.networks}
    content, style = (load_picture(name) for name in (arguments.content, arguments.style))
    made = [restyle(network, content, style)[0] for network in networks.values()]
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
