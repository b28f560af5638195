"""Parameter randomisation: what looks at no network scores 1, what is only weights scores 0; and rank correlations."""

import copy

import pytest
import torch
from torch import nn

from saccade.errors import SaccadeError
from saccade.explain import gradient, input_x_gradient
from saccade.explain.controls import CONTROLS, edge_map
from saccade.explain.scores import randomisation
from saccade.explain.scores.correlation import kendall, spearman


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 8 * 9, 5)
    ).double()


@pytest.mark.parametrize("name", CONTROLS)
def test_a_map_that_looks_at_no_network_scores_one_exactly(name: str) -> None:
    found = randomisation(net(), random(2, 3, 10, 11), 1, CONTROLS[name], ssim=True)
    assert found.layers == ("4", "1", "0")
    assert found.magnitude.shape == (3, 3, 2)
    assert (found.magnitude == 1).all()
    assert (found.signed == 1).all()
    assert found.ssim is not None
    assert (found.ssim == 1).all()
    assert torch.equal(found.curve, torch.ones(2, 3, dtype=torch.float64))
    assert torch.equal(found.mean, torch.ones(2, 2, dtype=torch.float64))


def test_the_gradient_of_a_linear_network_is_forgotten() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)).double()
    found = randomisation(network, random(1, 3, 32, 32), 2, gradient, seeds=5)
    assert float(found.signed.mean().abs()) < 0.03  # the deviation of one is 1 / sqrt(1024)
    assert float(found.magnitude.mean().abs()) < 0.03
    kept = randomisation(network, random(1, 3, 32, 32).square(), 2, input_x_gradient, seeds=5)
    assert float(kept.magnitude.mean()) > 0.2  # the picture is a factor of it
    assert float(kept.signed.mean().abs()) < 0.05


def test_layers_are_drawn_one_after_the_other_from_the_output() -> None:
    network, seen = net(), []
    trained = copy.deepcopy(network.state_dict())

    def spy(given: nn.Module, pictures: torch.Tensor, target: object) -> torch.Tensor:
        changed = [key for key, value in given.state_dict().items() if not torch.equal(value, trained[key])]
        seen.append(sorted({key.split(".")[0] for key in changed}))
        return gradient(given, pictures, 0)

    network[1].weight.data = random(4)
    trained = copy.deepcopy(network.state_dict())
    found = randomisation(network, random(1, 3, 10, 11), 0, spy, seeds=2)
    assert seen == [[], ["4"], ["1", "4"], ["0", "1", "4"], ["4"], ["1", "4"], ["0", "1", "4"]]
    assert not torch.equal(found.signed[0], found.signed[1])
    seen.clear()
    assert randomisation(network, random(1, 3, 10, 11), 0, spy, seeds=1, stages=2).layers == ("4", "0")
    assert seen == [[], ["4"], ["0", "1", "4"]]
    seen.clear()
    randomisation(network, random(1, 3, 10, 11), 0, spy, seeds=1, stages=1, draw="normal")
    assert seen == [[], ["0", "1", "4"]]


def test_normal_draws_keep_mean_and_deviation() -> None:
    torch.manual_seed(0)
    network, drawn = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 4)), []
    network[1].weight.data.mul_(7).add_(1)

    def spy(given: nn.Module, pictures: torch.Tensor, target: object) -> torch.Tensor:
        drawn.append(given[1].weight.detach().clone())
        return gradient(given, pictures, 0)

    randomisation(network, torch.rand(1, 3, 40, 40), 0, spy, seeds=1, draw="normal")
    torch.testing.assert_close(drawn[1].std(), drawn[0].std(), rtol=0.02, atol=0)
    torch.testing.assert_close(drawn[1].mean(), drawn[0].mean(), rtol=0.02, atol=0)
    assert float(torch.corrcoef(torch.stack([drawn[0].flatten(), drawn[1].flatten()]))[0, 1].abs()) < 0.05


class Owner(nn.Module):
    """Uses the weights of a part without calling it, and has a parameter of its own; the head is defined first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 3)
        self.inner = nn.MultiheadAttention(12, 2, batch_first=True)
        self.shift = nn.Parameter(torch.rand(12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2).flatten(1).unflatten(1, (-1, 12)) + self.shift
        return self.head(self.inner(tokens, tokens, tokens, need_weights=False)[0].mean(1))


def test_layers_come_in_running_order_and_none_is_left_out() -> None:
    torch.manual_seed(0)
    found = randomisation(Owner(), torch.rand(1, 3, 4, 4), 0, gradient, seeds=1)
    assert found.layers == ("head", "inner.out_proj", "inner", "network")


def test_leaves_the_network_and_the_random_state_as_they_were() -> None:
    network, x = net().train(), random(2, 3, 10, 11)
    network[0].weight.requires_grad_(False)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    one = randomisation(network, x, 1, gradient, seeds=2, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(layer.training and not layer._forward_pre_hooks for layer in network.modules())
    assert not network[0].weight.requires_grad
    with torch.inference_mode():
        two = randomisation(network, x.clone(), 1, gradient, seeds=2, seed=5)
    assert torch.equal(one.signed, two.signed)
    assert not torch.equal(one.signed, randomisation(network, x, 1, gradient, seeds=2, seed=6).signed)
    alone = randomisation(network, x[1:], 1, gradient, seeds=2, seed=5)
    torch.testing.assert_close(alone.signed[..., 0], one.signed[..., 1])


def test_spearman_of_known_ranks() -> None:
    def of(a: list[float], b: list[float]) -> float:
        return float(spearman(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)))

    assert of([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)  # with a tie; by hand 8/sqrt(95)
    assert of([1, 2, 3], [-1, -20, -300]) == -1
    assert of([0.1, 0.4, 0.2], [1, 3, 2]) == 1
    assert of([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)  # 1 - 6 * 4 / (4 * 15)
    assert torch.isnan(spearman(torch.ones(1, 4), torch.rand(1, 4)))
    assert torch.isnan(spearman(torch.tensor([[1.0, torch.nan]]), torch.rand(1, 2)))


def test_spearman_agrees_with_scipy() -> None:
    from scipy.stats import kendalltau, spearmanr

    a, b = (random(3, 5, 6) * 8).round(), (random(3, 6, 5).view(3, 5, 6) * 8).round()
    for i, value in enumerate(spearman(a, b).tolist()):
        assert value == pytest.approx(spearmanr(a[i].flatten(), b[i].flatten()).statistic)
    one, other = a[0].flatten().tolist(), b[0].flatten().tolist()
    assert kendall(one, other) == pytest.approx(kendalltau(one, other).statistic)
    assert kendall([1, 2, 3], [3, 2, 1]) == -1
    assert kendall([1, 1], [1, 2]) != kendall([1, 1], [1, 2])  # not defined


def test_says_what_is_wrong() -> None:
    with pytest.raises(SaccadeError, match="no layer of the network has parameters"):
        randomisation(nn.Flatten(), torch.rand(1, 3, 4, 4), 0, edge_map)
    with pytest.raises(SaccadeError, match="seeds=0"):
        randomisation(net(), random(1, 3, 10, 11), 0, edge_map, seeds=0)
    with pytest.raises(SaccadeError, match="7 x 7"):
        randomisation(net(), random(1, 3, 6, 11), 0, edge_map, ssim=True)
