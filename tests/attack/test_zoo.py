"""ZOO: its slopes against the gradient, its steps against the paper's written plainly, linear networks' optimum."""

import pytest
import torch
from attack.nets import conv_net, draw, labels_of, linear, ratios

from saccade.attack.engine import searching
from saccade.attack.zoo import slopes, zoo
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError


def test_the_slopes_are_the_gradient_of_the_hinge() -> None:
    network, x = conv_net(), draw(3, 3, 8, 8)
    labels = labels_of(network, x)
    labels[2] = (labels[2] + 1) % 5  # fooled already: no slope
    drawn = torch.tensor([0, 7, 100, 191])
    z = x.clone().requires_grad_()
    scores = network(z)
    own = scores.gather(1, labels[:, None])[:, 0]
    rival = scores.scatter(1, labels[:, None], -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad((own - rival).clamp_min(0).sum(), z)
    with searching(network, x, labels, operation="test", batch_size=5) as search:
        found = slopes(search, x, search.every_row, drawn, 1e-5)
        assert search.forwards.tolist() == [9, 9, 9]
    torch.testing.assert_close(found, gradient.flatten(1)[:, drawn], rtol=1e-4, atol=1e-6)


def test_agrees_with_its_paper() -> None:
    network, x = conv_net(), draw(4, 3, 8, 8)
    labels = labels_of(network, x)
    settings = {"steps": 12, "samples": 40, "delta": 1e-4, "lr": 0.05, "constant": 5.0, "searches": 1, "seed": 3}
    found = zoo(network, x, labels, **settings)
    assert found.success.any()
    for i in range(4):
        label = int(labels[i])

        def objective(z, label=label, i=i):
            scores = network(z.view(1, 3, 8, 8))[0].detach()
            lead = scores[label] - torch.cat([scores[:label], scores[label + 1 :]]).max()
            return 5.0 * max(lead.item(), 0.0) + (z - x[i].flatten()).square().sum().item()

        z, mean, square, count = x[i].flatten().clone(), [0.0] * 192, [0.0] * 192, [0] * 192
        nearest = None
        for step in range(12):
            before = z.clone()
            for j in torch.randperm(192, generator=generator(3, 0, step))[:40].tolist():
                side = torch.zeros(192, dtype=torch.float64)
                side[j] = 1e-4
                g = (objective(before + side) - objective(before - side)) / 2e-4
                count[j] += 1
                mean[j], square[j] = 0.9 * mean[j] + 0.1 * g, 0.999 * square[j] + 0.001 * g * g
                root = (square[j] / (1 - 0.999 ** count[j])) ** 0.5 + 1e-8
                z[j] -= 0.05 * mean[j] / (1 - 0.9 ** count[j]) / root
            z.clamp_(0, 1)
            if network(z.view(1, 3, 8, 8)).argmax() != label:
                far = (z - x[i].flatten()).norm().item()
                nearest = far if nearest is None else min(nearest, far)
        assert bool(found.success[i]) == (nearest is not None)
        if nearest is not None:
            assert found.norm[i].item() == pytest.approx(nearest, rel=1e-5)
        assert found.forwards[i] == 1 + 12 * 81
        assert found.backwards[i] == 0


def test_it_comes_close_to_the_optimum_of_linear_networks() -> None:
    found = ratios(zoo, "l2", 3, count=8, steps=250, samples=48, lr=0.003, dtype=torch.float64)
    assert found.mean() <= 1.1


def test_a_mask_is_not_left_and_a_target_is_hit() -> None:
    network, x = linear(4), draw(6, 3, 4, 4, seed=2)
    labels = labels_of(network, x)
    mask = torch.zeros(4, 4)
    mask[:3] = 1
    goal = (labels + 1) % 4
    found = zoo(network, x, labels, targets=goal, mask=mask, steps=60, lr=0.05, constant=10.0)
    assert found.success.any()
    hit = found.success
    assert torch.equal(network(found.adversarial[hit]).argmax(1), goal[hit])
    assert torch.equal(found.adversarial[:, :, 3], x[:, :, 3])


@pytest.mark.parametrize("settings", [{"samples": 0}, {"delta": 0.0}, {"lr": -1.0}, {"constant": float("nan")}])
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    network, x = linear(2), draw(1, 3, 4, 4)
    with pytest.raises(SaccadeError, match="expected 1 or more, and numbers above 0"):
        zoo(network, x, labels_of(network, x), **settings)
