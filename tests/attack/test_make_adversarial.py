"""The course's attack against closed forms, the course's own loop, and the promises of the house."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saccade import networks, pictures
from saccade.attack import draw_attack, make_adversarial_attack
from saccade.engine import fetch
from saccade.errors import SaccadeError
from saccade.networks import Network

SAMPLES = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "hubble", "motorcycle", "retina", "rocket")


def linear(weight: Tensor) -> nn.Module:
    """Scores are weight (classes, 3, h, w) times picture."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=False).to(weight.dtype)
    layer.weight.data = weight.flatten(1).clone()
    return nn.Sequential(nn.Flatten(), layer)


def conv_net(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Small, with batch norm, an in-place ReLU and dropout."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8 * 16, 5),
    ).to(dtype)
    with torch.no_grad():
        net(torch.rand(8, 3, 6, 6, dtype=dtype))  # running statistics other than 0 and 1
    return net


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def course(module: Callable[[Tensor], Tensor], x: Tensor, target: int) -> tuple[Tensor, int]:
    """The course's loop in the course's pixels, one picture, word for word."""
    x = x.clone().requires_grad_()
    for i in range(100):
        scores = module(x)
        if scores.argmax(1).item() == target:
            return x.detach(), i
        scores[0, target].backward()
        with torch.no_grad():
            x += x.grad / x.grad.norm()
            x.grad.zero_()
    raise AssertionError("not fooled")


def two_classes() -> nn.Module:
    """The scores of pictures of one pixel are its red and its green."""
    return linear(torch.eye(3, dtype=torch.float64)[:2].view(2, 3, 1, 1))


def red(amount: float) -> Tensor:
    return torch.tensor([amount, 0.05, 0.5], dtype=torch.float64).view(1, 3, 1, 1)


def test_a_case_done_by_hand() -> None:
    found = make_adversarial_attack(two_classes(), red(0.4), 1, learning_rate=0.1)
    assert found.success.tolist() == [True]
    assert found.iterations.tolist() == [4]  # 0.05 + 4 x 0.1 passes 0.4
    torch.testing.assert_close(found.adversarial.flatten(), torch.tensor([0.4, 0.45, 0.5], dtype=torch.float64))
    expected = [[0.05, 0.4], [0.15, 0.4], [0.25, 0.4], [0.35, 0.4], [0.45, 0.45]]
    torch.testing.assert_close(found.trace[0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("max_iter", "success"), [(0, False), (3, False), (4, True), (5, True)])
def test_makes_no_more_steps_than_allowed_and_looks_after_the_last(max_iter: int, success: bool) -> None:
    found = make_adversarial_attack(two_classes(), red(0.4), 1, learning_rate=0.1, max_iter=max_iter)
    assert found.success.tolist() == [success]
    assert found.stuck.tolist() == [False]
    assert found.iterations.tolist() == [min(max_iter, 4)]
    assert found.trace[0].shape == (min(max_iter, 4) + 1, 2)
    assert abs(found.adversarial[0, 1].item() - 0.05 - 0.1 * min(max_iter, 4)) < 1e-12


def test_leaves_the_range_unless_told_to_stay() -> None:
    free = make_adversarial_attack(two_classes(), red(1.0), 1, learning_rate=0.2)
    assert free.success.item()
    assert free.iterations.item() == 5
    assert abs(free.adversarial.max().item() - 1.05) < 1e-12
    kept = make_adversarial_attack(two_classes(), red(1.0), 1, learning_rate=0.2, max_iter=20, clamp=True)
    assert not kept.success.item()  # green can be as high as red, but no higher
    assert kept.iterations.item() == 20
    assert kept.adversarial.aminmax() == (0.5, 1.0)
    assert kept.adversarial[0, 1].item() == 1.0


@pytest.mark.parametrize("learning_rate", [0.05, 0.3, 1.0])
def test_of_a_linear_network_it_is_a_straight_line(learning_rate: float) -> None:
    weight = random(4, 3, 2, 3, seed=1) - 0.5
    network = linear(weight)
    for seed in range(5):
        x = random(1, 3, 2, 3, seed=seed)
        for target in range(4):
            along = weight[target] / weight[target].square().sum().sqrt()
            steps = next(
                k
                for k in range(1000)
                if (weight * (x + k * learning_rate * along)).sum((1, 2, 3)).argmax().item() == target
            )
            found = make_adversarial_attack(network, x, target, learning_rate=learning_rate, max_iter=1000)
            assert found.iterations.tolist() == [steps]
            torch.testing.assert_close(found.adversarial, x + steps * learning_rate * along, rtol=0, atol=1e-11)


def test_equals_the_loop_of_the_course_in_normalised_pixels() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.2, 0.5, 0.25)
    module, x, steps = conv_net().eval(), random(6, 3, 6, 6), []
    network = Network(module, mean=mean, std=std).double()
    for i in range(len(x)):
        expected, count = course(module, (x[i : i + 1] - network.mean) / network.std, i % 5)
        found = make_adversarial_attack(network, x[i : i + 1], i % 5)
        assert found.iterations.item() == count
        torch.testing.assert_close(found.adversarial, expected * network.std + network.mean, rtol=1e-10, atol=1e-10)
        steps.append(count)
    assert max(steps) > 1


def test_equals_the_loop_of_the_course_in_pixels() -> None:
    network = Network(conv_net(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.5, 0.25)).double().eval()
    x, target = random(1, 3, 6, 6, seed=3), 2
    expected, count = course(network, x, target)
    found = make_adversarial_attack(network, x, target, normalised=False)
    assert found.iterations.item() == count >= 1
    torch.testing.assert_close(found.adversarial, expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(make_adversarial_attack(network, x, target).adversarial, expected)


def test_the_trace_is_what_the_network_says_on_the_way() -> None:
    network, x, seen = conv_net().eval(), random(2, 3, 6, 6), []
    found = make_adversarial_attack(network, x, [3, 4], learning_rate=0.2, callback=seen.append)
    assert found.iterations.min() > 1
    for k in range(int(found.iterations.max()) + 1):
        at = make_adversarial_attack(network, x, [3, 4], learning_rate=0.2, max_iter=k).adversarial
        with torch.no_grad():
            scores = network(at)
        for i, target in enumerate((3, 4)):
            if k <= found.iterations[i]:
                expected = torch.stack([scores[i, target], scores[i].max()])
                torch.testing.assert_close(found.trace[i][k], expected, rtol=1e-9, atol=1e-9)
    told = [(row["picture"], row["iteration"], row["target_score"], row["max_score"]) for row in seen]
    wanted = [(i, k, *row) for i in range(2) for k, row in enumerate(found.trace[i].tolist())]
    assert sorted(told) == sorted(wanted)


def test_a_score_without_a_slope_stops_its_picture_alone() -> None:
    dead = nn.Sequential(two_classes(), nn.Threshold(0.3, 0.0))  # green below 0.3 is out of sight
    x = torch.cat([red(0.4), red(0.4), red(0.2), red(0.2)])
    x[0, 1] = 0.35
    found = make_adversarial_attack(dead, x, [1, 1, 1, 0], learning_rate=0.1)
    assert found.success.tolist() == [True, False, False, True]  # of equal scores the first class is said
    assert found.stuck.tolist() == [False, True, True, False]
    assert found.iterations.tolist() == [1, 0, 0, 0]
    assert torch.equal(found.adversarial[1:], x[1:])
    assert found.trace[1].tolist() == [[0.0, 0.4]]


def test_a_tiny_slope_is_a_slope() -> None:
    weight = (random(4, 3, 2, 3, seed=1) - 0.5).float()
    x = random(1, 3, 2, 3).float()
    for target in range(4):
        expected = make_adversarial_attack(linear(weight), x, target, learning_rate=0.1)
        found = make_adversarial_attack(linear(1e-30 * weight), x, target, learning_rate=0.1)
        assert torch.equal(found.iterations, expected.iterations)
        torch.testing.assert_close(found.adversarial, expected.adversarial)


def test_pictures_that_are_the_target_stay_as_they_are() -> None:
    network, x = conv_net(), random(5, 3, 6, 6)
    with torch.no_grad():
        target = network.eval()(x).argmax(1)
    found = make_adversarial_attack(network, x, target)
    assert found.success.all()
    assert not found.iterations.any()
    assert torch.equal(found.adversarial, x)
    assert found.adversarial.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("batch_size", [None, 3])
def test_does_not_depend_on_the_rest_of_the_batch(batch_size: int | None) -> None:
    network, x = conv_net(), random(8, 3, 6, 6)
    targets = [i % 5 for i in range(8)]
    before = x.clone()
    together = make_adversarial_attack(network, x, targets, learning_rate=0.2, batch_size=batch_size)
    assert torch.equal(x, before)
    assert len(set(together.iterations.tolist())) > 3
    for i, target in enumerate(targets):
        alone = make_adversarial_attack(network, x[i : i + 1], target, learning_rate=0.2)
        assert alone.iterations[0] == together.iterations[i]
        assert alone.success[0] == together.success[i]
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.trace[0], together.trace[i], rtol=1e-12, atol=1e-12)


class Stop(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(training: bool, fails: bool) -> None:
    network, x = conv_net().train(training), random(2, 3, 6, 6).requires_grad_()
    network[0].weight.requires_grad_(False)
    network[5].weight.grad = torch.ones_like(network[5].weight)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    generator = torch.get_rng_state()

    def stop(row: dict[str, object]) -> None:
        if row["iteration"] == 1:
            raise Stop

    if fails:
        with pytest.raises(Stop):
            make_adversarial_attack(network, x, [3, 4], callback=stop)
    else:
        found = make_adversarial_attack(network, x, [3, 4])
        assert not any(part.requires_grad for part in (found.adversarial, *found.trace))
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()
    assert x.grad is None
    assert [layer.training for layer in network.modules()] == [training] * 7
    assert [p.requires_grad for p in network.parameters()] == [False, *[True] * 5]
    assert network[5].bias.grad is None
    assert torch.equal(network[5].weight.grad, torch.ones_like(network[5].weight))
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context: type[torch.no_grad]) -> None:
    network, x = conv_net(torch.float32).requires_grad_(False), random(2, 3, 6, 6).float()
    expected = make_adversarial_attack(network, x, 1)
    with context():
        found = make_adversarial_attack(network, x.clone(), 1)
    assert torch.equal(found.adversarial, expected.adversarial)
    assert found.adversarial.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "target", "settings", "message"),
    [
        (torch.rand(3, 6, 6), 0, {}, r"picture\[None\]"),
        (torch.zeros(1, 3, 6, 6, dtype=torch.uint8), 0, {}, "255"),
        (torch.full((1, 3, 6, 6), float("nan")), 0, {}, "not finite"),
        (torch.rand(1, 3, 6, 6).double(), "cat", {}, "knows no names"),
        (torch.rand(1, 3, 6, 6).double(), 5, {}, "no class 5: the network has 5"),
        (torch.rand(1, 3, 6, 6).double(), [0, 1], {}, "2 targets were given for 1 pictures"),
        (torch.rand(1, 3, 6, 6).double(), 0, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (torch.rand(1, 3, 6, 6).double(), 0, {"learning_rate": float("nan")}, "learning_rate is nan"),
        (torch.rand(1, 3, 6, 6).double(), 0, {"max_iter": -1}, "max_iter is -1"),
        (torch.rand(1, 3, 6, 6).double(), 0, {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_says_what_is_wrong(given: Tensor, target: object, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        make_adversarial_attack(conv_net(), given, target, **settings)  # type: ignore[arg-type]


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean((2, 3))


def test_refuses_networks_that_cannot_be_attacked() -> None:
    x = torch.rand(1, 3, 6, 6)
    with pytest.raises(SaccadeError, match="expected scores"):
        make_adversarial_attack(nn.Conv2d(3, 4, 3), x, 0)
    with pytest.raises(SaccadeError, match="differentiably"):
        make_adversarial_attack(Detached(), x, 0)
    with pytest.raises(SaccadeError, match="not finite"):
        make_adversarial_attack(linear(torch.full((2, 3, 6, 6), float("inf"))), x, 0)


def fool_samples(network: Network) -> float:
    """Ten photographs, each to be taken for another class, by the course's settings; the mean of their steps."""
    x = torch.cat([networks.prepare(network, pictures.sample(name)) for name in SAMPLES])
    count = len(network.classes or ())
    targets = [(6 + 97 * i) % count for i in range(len(x))]
    found = make_adversarial_attack(network, x, targets)
    assert found.success.all()
    assert found.iterations.max() < 100
    assert found.iterations.float().mean() > 4
    with torch.no_grad():
        assert network(found.adversarial).argmax(1).tolist() == targets
    assert (found.adversarial - x).abs().mean() < 0.04
    return found.iterations.float().mean().item()


def test_fools_tinynet_and_its_robust_twin_not_so_soon() -> None:
    plain, target = fool_samples(networks.load("tinynet")), "goldfish"
    robust = networks.load("tinynet-robust")
    x = torch.cat([networks.prepare(robust, pictures.sample(name)) for name in SAMPLES[:3]])
    found = make_adversarial_attack(robust, x, target)
    assert found.iterations.float().mean() > 2 * plain


def test_fools_squeezenet() -> None:
    official = networks.zoo.OFFICIAL["squeezenet1_0"].file
    if fetch.find([official, "squeezenet1_0.safetensors"]) is None:
        pytest.skip("no weights of squeezenet1_0 here; set SACCADE_ARCHIVES to a folder that holds them")
    fool_samples(networks.load("squeezenet1_0"))


def test_draws_what_was_done(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = networks.build("tinynet", num_classes=3, widths=(4, 4), units=(1, 1))
    network = Network(module, classes=("cat", "dog", "owl")).train()
    x = torch.full((2, 3, 16, 24), 0.25)
    x[1] = 0.999
    drawn = draw_attack(network, x, x + 0.02)
    colours = set((drawn * 255).round().long().flatten(1).T.unique(dim=0)[:, 0].tolist())
    # before and after (0.25, 0.27; 0.999 and cut off at 1), difference (0.52), and ten times it (0.7)
    assert {64, 69, 255, 133, 178} <= colours
    assert network.training
    same = draw_attack(network, x, x)
    assert {64, 128} <= set((same * 255).round().long().flatten(1).T.unique(dim=0)[:, 0].tolist())
    assert draw_attack(network, x[:1], x[:1]).shape[1] < drawn.shape[1]
    with pytest.raises(SaccadeError, match="expected one shape"):
        draw_attack(network, x, x[:1])
