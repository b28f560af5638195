"""SmoothGrad, its square and its variance against closed forms and against loops over the noise."""

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain.guided import guided_backprop
from saccade.explain.integrated import integrated_gradients
from saccade.explain.question import Unit
from saccade.explain.saliency import gradient, input_x_gradient, saliency
from saccade.explain.smooth_grad import noise, smooth_grad


def pictures(n: int = 2, h: int = 6, w: int = 7) -> torch.Tensor:
    return torch.rand(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


class Squares(nn.Module):
    """The score is half the sum of squared pixels, so the gradient is the picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).square().sum(1, keepdim=True) / 2


def relu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(80, 5)
    ).double()


def test_of_a_linear_network_noise_changes_nothing() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(126, 4)).double()
    x = pictures()
    torch.testing.assert_close(smooth_grad(net, x, 2, samples=7), gradient(net, x, 2), rtol=1e-12, atol=1e-14)
    square = smooth_grad(net, x, 2, samples=7, kind="square")
    torch.testing.assert_close(square, gradient(net, x, 2).square(), rtol=1e-12, atol=1e-14)
    with pytest.warns(UserWarning, match="constant"):
        assert smooth_grad(net, x, 2, samples=7, kind="variance").abs().max() == 0


def test_without_noise_it_is_the_gradient() -> None:
    net, x = relu_net(), pictures()
    torch.testing.assert_close(smooth_grad(net, x, 1, samples=3, level=0), gradient(net, x, 1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["mean", "square", "variance"])
def test_of_squares_it_shows_the_noise_itself(kind: str) -> None:
    """The gradients are the noisy copies, so their moments are those of the noise that was drawn."""
    x, samples = pictures(2) * torch.tensor([1.0, 0.25]).view(2, 1, 1, 1), 9
    noisy = torch.stack([noise(x, 4, i) for i in range(samples)])[:, None]
    span = (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(2, 1, 1, 1)
    copies = x + 0.2 * span * noisy
    expected = {"mean": copies.mean(0), "square": copies.square().mean(0), "variance": copies.var(0, correction=0)}[
        kind
    ]
    found = smooth_grad(Squares(), x, 0, samples=samples, level=0.2, kind=kind, seed=4)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


def test_the_noise_has_the_deviation_that_was_asked_for() -> None:
    """A share of each picture's range, whatever its level; and nothing is clipped."""
    x = pictures(3, 24, 24) * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1, 1) + 0.3
    found = smooth_grad(Squares(), x, 0, samples=40, level=0.15, kind="variance")
    span = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    torch.testing.assert_close(found.mean((1, 2, 3)).sqrt(), 0.15 * span * (39 / 40) ** 0.5, rtol=0.02, atol=0)
    drawn = torch.stack([noise(x, 0, i) for i in range(40)])
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float((drawn[0] * drawn[1]).mean())) < 0.1  # each sample has its own


@pytest.mark.parametrize("method", [gradient, saliency, input_x_gradient, guided_backprop])
@pytest.mark.parametrize("kind", ["mean", "square", "variance"])
def test_of_any_method_it_is_a_loop_over_the_copies(method: object, kind: str) -> None:
    net, x, target = relu_net(), pictures(3), [4, 0, 2]
    span = x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)
    each = torch.stack([method(net, x + 0.15 * span * noise(x, 0, i), target) for i in range(6)])  # type: ignore[operator]
    expected = {"mean": each.mean(0), "square": each.square().mean(0), "variance": each.var(0, correction=0)}[kind]
    found = smooth_grad(net, x, target, method=method, samples=6, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_settings_go_to_the_method() -> None:
    net, x = relu_net(), pictures(1)
    given = {"baseline": 0.5, "steps": 4}
    found = smooth_grad(net, x, 1, method=integrated_gradients, samples=1, level=0.0, batch_size=3, **given)
    torch.testing.assert_close(found, integrated_gradients(net, x, 1, baseline=0.5, steps=4))
    with pytest.raises(TypeError, match="steps"):
        smooth_grad(net, x, 1, steps=4)


@pytest.mark.parametrize("kind", ["mean", "variance"])
def test_of_any_batch_size_and_one_by_one(kind: str) -> None:
    net, x, target = relu_net(), pictures(5), [0, 1, 2, 3, 4]
    whole = smooth_grad(net, x, target, samples=7, kind=kind)  # type: ignore[arg-type]
    for size in (1, 3, 11):
        found = smooth_grad(net, x, target, samples=7, kind=kind, batch_size=size)  # type: ignore[arg-type]
        torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-13)
    alone = smooth_grad(net, x[3:4], 3, samples=7, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(alone[0], whole[3], rtol=1e-10, atol=1e-13)


def test_of_a_unit() -> None:
    net, x = relu_net(), pictures()
    found = smooth_grad(net, x, Unit("0", 2, (1, 1)), samples=3)
    assert (found[:, :, 1:4, 1:4] - net[0].weight[2]).abs().max() < 1e-12
    assert found[:, :, 4:].abs().max() == 0


def test_the_variance_keeps_its_digits() -> None:
    """Gradients of 1e8 with a scatter of 1e-2 have no variance left in a difference of float64 moments."""

    class Steep(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(1)
            return (1e8 * x + x.square() / 2).sum(1, keepdim=True)

    x = pictures(1)
    drawn = torch.stack([noise(x, 0, i) for i in range(20)]) * 0.01 * (x.max() - x.min())
    found = smooth_grad(Steep(), x, 0, samples=20, level=0.01, kind="variance")
    torch.testing.assert_close(found[0], drawn.var(0, correction=0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"level": -0.1}, {"kind": "median"}])
def test_says_what_is_wrong(settings: dict[str, object]) -> None:
    with pytest.raises(SaccadeError, match="expected 1 sample or more"):
        smooth_grad(relu_net(), pictures(), 1, **settings)  # type: ignore[arg-type]
