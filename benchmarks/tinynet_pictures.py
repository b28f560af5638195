"""What tinynet and its robust twin imagine: class pictures and a style transfer of both, side by side.

    python benchmarks/tinynet_pictures.py [--networks tinynet tinynet-robust] [--style picture] [-o docs/results]

Writes class_pictures.webp and style_transfer.webp. The methods are the plainest ones (gradient ascent in pixels with
jitter; Gatys et al. 2016 with Adam), with the same settings for both networks, so that what differs is the network.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import saccade
from saccade.engine.guards import frozen
from saccade.networks import Network
from saccade.pictures import centre_crop, read, resize, sample, sample_names, sheet, write

CLASSES = ["school bus", "tabby", "goldfish", "monarch", "espresso", "golden retriever", "mushroom", "teapot"]


def class_pictures(network: Network, targets: list[int], *, size: int = 96, steps: int = 160, seed: int = 0) -> Tensor:
    """Pictures (N, 3, size, size) grown for the logits `targets` from smooth grey noise, coarse to fine."""
    generator = torch.Generator().manual_seed(seed)
    pictures = 0.5 + 0.02 * torch.randn(len(targets), 3, size // 2, size // 2, generator=generator)
    index = torch.tensor(targets)
    with frozen(network):
        for scale in (size // 2, 3 * size // 4, size):
            pictures = resize(pictures.clamp(0, 1), (scale, scale))
            for step in range(steps):
                shift = torch.randint(-6, 7, (2,), generator=generator).tolist()
                moved = pictures.roll(shift, (2, 3)).requires_grad_()
                scores = network(moved)[torch.arange(len(targets)), index]
                across, down = moved.diff(dim=3), moved.diff(dim=2)
                roughness = across.square().sum((1, 2, 3)) + down.square().sum((1, 2, 3))
                (gradient,) = torch.autograd.grad((scores - 0.02 * roughness).sum(), moved)
                length = gradient.flatten(1).norm(dim=1).clamp(min=1e-8).view(-1, 1, 1, 1)
                rate = 0.6 * scale / size * (1 - 0.7 * step / steps)
                pictures = (moved.detach() + rate * gradient / length).clamp(0, 1).roll([-s for s in shift], (2, 3))
    return pictures


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
    parser.add_argument("--only", choices=["class", "style"])
    arguments = parser.parse_args()
    networks = {name: saccade.load(name) for name in arguments.networks}
    if arguments.only != "style":
        rows = []
        for network in networks.values():
            pictures = class_pictures(network, [network.class_index(name) for name in CLASSES])
            rows.append(list(pictures))
        labels = [Path(name).stem for name in networks]
        write(
            sheet(rows, row_labels=labels, column_titles=CLASSES, cell=110, smooth=True),
            arguments.output / "class_pictures.webp",
            quality=88,
        )
    if arguments.only != "class":
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
