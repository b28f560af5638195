"""Class pictures: the course's loop reimplemented, the recipes, and the promises of the house."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from torch import Tensor, nn

import saccade
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.imagine import RECIPES, Class, Recipe, class_picture, grow
from saccade.imagine.recipes import course, modern, toolbox
from saccade.networks import Network
from saccade.pictures.optimise import Moment, Pixels, noise


def course_by_hand(
    network: Network, target: int, size: int, seed: int, *, normalised: bool, steps: int, rate: float, l2_reg: float
) -> Tensor:
    """As the course writes it: in normalised space, in place, with its own jitter, clamp and blur."""
    mean, std = network.mean, network.std
    pictures = noise(Pixels(mean.flatten().tolist(), std.flatten().tolist()), (size, size), spread=1.0, seed=seed)
    img = (pictures.double() - mean) / std
    for t in range(steps):
        ox, oy = torch.randint(0, 17, (2,), generator=generator(seed, 1, t)).tolist()
        img = torch.roll(torch.roll(img, ox, dims=3), oy, dims=2).requires_grad_()
        score = network.module(img)[0, target] - l2_reg * (img**2).sum()
        (grad,) = torch.autograd.grad(score, img)
        with torch.no_grad():
            img = img + rate * (grad / grad.norm() if normalised else grad)
            img = torch.roll(torch.roll(img, -ox, dims=3), -oy, dims=2)
            for c in range(3):
                low, high = (-mean / std)[0, c, 0, 0].item(), ((1 - mean) / std)[0, c, 0, 0].item()
                img[:, c].clamp_(min=low, max=high)
            if t % 10 == 0:
                blurred = gaussian_filter1d(gaussian_filter1d(img.numpy(), 0.5, axis=2), 0.5, axis=3)
                img = torch.from_numpy(np.ascontiguousarray(blurred))
    return img * std + mean


@pytest.mark.parametrize("normalised", [False, True])
def test_the_course_recipe_is_the_courses_loop(network, normalised):
    network.eval()
    expected = course_by_hand(network, 1, 20, 3, normalised=normalised, steps=31, rate=2.0, l2_reg=1e-2)
    recipe = course(network, (20, 20), steps=31, learning_rate=2.0, l2_reg=1e-2, normalised=normalised)
    found = class_picture(network, "dog", recipe=recipe, size=20, seed=3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert (found > 0.01).float().mean() > 0.2  # not all of it at the ends of the range
    assert (found < 0.99).float().mean() > 0.2


def test_the_courses_own_numbers(network):
    recipe = course(network, (16, 16))
    assert recipe.steps == 100
    assert (recipe.rule.rate, recipe.spread) == (25.0, 1.0)
    assert RECIPES["course-normalised"](network, (16, 16)).rule.rate == 25.0
    expected = course_by_hand(network.eval(), 0, 16, 0, normalised=False, steps=100, rate=25.0, l2_reg=1e-3)
    found = class_picture(network, 0, recipe="course", size=16)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def toolbox_by_hand(network: Network, target: int, seed: int, steps: int, kind: str, rate: float) -> Tensor:
    """After Yosinski and others: values are 0 to 255 minus the mean, cropped first in each iteration."""
    mean = 255 * network.mean
    pictures = noise(Pixels(network.mean.flatten().tolist(), (1 / 255,) * 3), (16, 16), spread=10.0, seed=seed)
    xx = 255 * pictures.double() - mean
    for ii in range(steps):
        if ii:  # our noise is cropped after the first step only
            xx = (xx + mean).clamp(0, 255) - mean
        x = xx.clone().requires_grad_()
        (grad,) = torch.autograd.grad(network((x + mean) / 255)[0, target], x)
        lr = rate if kind in ("decay", "blur") else min(rate, 2.0 / grad.norm().item() ** 2)
        xx = xx + lr * grad
        xx = xx * (1 - {"decay": 0.3, "blur": 1e-4}.get(kind, 0))
        sigma = {"decay": 0, "blur": 1.0}.get(kind, 0.5)
        if sigma and ii % 4 == 0:
            xx = torch.from_numpy(gaussian_filter(xx.numpy(), (0, 0, sigma, sigma)))
        size = xx.norm(dim=1) if kind in ("norm", "decay") else (grad * -xx).sum(1).abs()
        percent = {"norm": 50, "decay": 20, "contribution": 90}.get(kind)
        if percent:
            xx = xx - xx * (size < float(np.percentile(size.numpy(), percent)))[:, None]
    return ((xx + mean) / 255).clamp(0, 1)


@pytest.mark.parametrize("kind", ["norm", "decay", "blur", "contribution"])
@pytest.mark.parametrize("rate", [100.0, 1e4])
def test_the_recipes_of_the_toolbox(network, kind, rate):
    recipe = toolbox(network, (16, 16), kind=kind, rate=rate)
    found = class_picture(network, 2, recipe=recipe, size=16, steps=9, seed=1)
    expected = toolbox_by_hand(network.eval(), 2, 1, 9, kind, rate)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert recipe.steps == {"norm": 500, "decay": 750}.get(kind, 1000)


def colour_network() -> Network:
    """Three classes: how much red, green and blue there is beyond the other two; wherever, at whatever size."""
    mix = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect", bias=False)
    mix.weight.data = ((1.5 * torch.eye(3) - 0.5) / 9)[:, :, None, None].repeat(1, 1, 3, 3)
    network = Network(nn.Sequential(mix, nn.AdaptiveAvgPool2d(1), nn.Flatten()), classes=("red", "green", "blue"))
    return network.double()


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_the_score_rises_with_every_recipe(recipe):
    network = colour_network()
    scores: list[Tensor] = []
    found = class_picture(
        network, ["red", "blue"], recipe=recipe, size=24, steps=40, callback=lambda m: scores.append(m.score)
    )
    assert found.shape == (2, 3, 24, 24)
    assert found.dtype == torch.float64
    assert found.min() >= 0
    assert found.max() <= 1
    with torch.no_grad():
        reached = network(found)[[0, 1], [0, 2]]
    assert (reached > 0.04).all()
    assert (torch.stack(scores[-5:]).mean(0) > scores[0] + 0.04).all()


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_picture_does_not_depend_on_the_others_nor_on_the_size_of_a_batch(network, recipe):
    settings = {"recipe": recipe, "size": (18, 22), "steps": 6, "seed": 2}
    together = class_picture(network, [0, 1, 2, 1], **settings)
    in_parts = class_picture(network, [0, 1, 2, 1], batch_size=3, **settings)
    torch.testing.assert_close(in_parts, together, rtol=0, atol=1e-9)
    for i in (1, 2):
        torch.testing.assert_close(class_picture(network, i, **settings)[0], together[i], rtol=0, atol=1e-9)
    assert torch.equal(together[1], together[3])
    assert not torch.equal(together[0], together[1])


def test_variants_start_from_other_noise(network):
    settings = {"size": 16, "steps": 2}
    found = class_picture(network, ["cat", "dog"], variants=2, **settings)
    assert found.shape[0] == 4
    torch.testing.assert_close(found[0], class_picture(network, "cat", **settings)[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[2], class_picture(network, "dog", **settings)[0], rtol=0, atol=1e-9)
    assert (found[0] - found[1]).abs().max() > 1e-3
    other = class_picture(network, "cat", seed=1, **settings)
    assert (other[0] - found[0]).abs().max() > 1e-3
    assert torch.equal(class_picture(network, "cat", seed=1, **settings), other)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(network, training):
    network.train(training)
    network.module.stem.conv.weight.requires_grad_(False)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()

    def fail(moment: Moment) -> None:
        if moment.step == 2:
            raise RuntimeError("in the middle")

    class_picture(network, 0, size=16, steps=2)
    with pytest.raises(RuntimeError, match="in the middle"):
        class_picture(network, 0, size=16, steps=4, callback=fail)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(layer.training is training for layer in network.modules())
    flags = {name: p.requires_grad for name, p in network.named_parameters()}
    assert flags.pop("module.stem.conv.weight") is False
    assert all(flags.values())
    assert all(p.grad is None for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(network, context):
    expected = class_picture(network, 0, size=16, steps=2)
    with context():
        assert torch.equal(class_picture(network, 0, size=16, steps=2), expected)


def test_an_interrupted_picture_is_taken_up(network, tmp_path: Path):
    file = tmp_path / "cat.pt"

    def fail(moment: Moment) -> None:
        if moment.step == 60:
            raise KeyboardInterrupt

    settings = {"size": 16, "steps": 70}
    with pytest.raises(KeyboardInterrupt):
        class_picture(network, "cat", callback=fail, checkpoint=file, **settings)
    with pytest.raises(SaccadeError, match="another objective"):
        class_picture(network, "owl", checkpoint=file, **settings)
    steps: list[int] = []
    found = class_picture(network, "cat", callback=lambda m: steps.append(m.step), checkpoint=file, **settings)
    assert steps[0] == 51
    assert torch.equal(found, class_picture(network, "cat", **settings))
    assert not file.exists()


def test_says_what_is_wrong(network):
    with pytest.raises(SaccadeError, match="no recipe 'magic'"):
        class_picture(network, 0, recipe="magic")
    with pytest.raises(SaccadeError, match="no class named 'bird'"):
        class_picture(network, "bird", size=16)
    with pytest.raises(SaccadeError, match="the size is 0 x 16"):
        class_picture(network, 0, size=(0, 16))
    with pytest.raises(SaccadeError, match="expected a multiple"):
        grow(network, Class(0), count=3, variants=2, size=16)
    with pytest.raises(SaccadeError, match=r"picture\[None\]"):
        grow(network, Class(0), start=torch.rand(3, 16, 16))


def test_the_default_shows_the_network_nearly_the_size_it_was_trained_for(network):
    sizes: list[int] = []
    network.module.stem.register_forward_hook(lambda layer, given, out: sizes.append(out.shape[-1]))
    class_picture(network, 0, size=32, steps=40)
    assert min(sizes) >= 14
    assert max(sizes) <= 26
    assert max(sizes) - min(sizes) > 4
    assert modern(network, (16, 16)).transforms[1].high == pytest.approx(1.1)
    assert isinstance(modern(network, (16, 16)), Recipe)


@pytest.mark.slow
def test_the_shipped_robust_network_recognises_its_pictures_and_so_does_its_twin():
    """What is grown for one network convinces another that was trained apart: it shows the class, not the network."""
    robust, twin = saccade.load("tinynet-robust"), saccade.load("tinynet")
    names = ["goldfish", "monarch", "school bus", "ladybug", "orange", "jellyfish"]
    found = class_picture(robust, names, steps=96)
    wanted = torch.tensor([robust.class_index(name) for name in names])
    with torch.no_grad():
        for network in (robust, twin):
            seen = network.eval()(torch.nn.functional.avg_pool2d(found, 2)).topk(5).indices
            assert (seen == wanted[:, None]).any(1).sum() >= 5, network.name
