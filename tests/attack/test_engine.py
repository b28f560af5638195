"""The engine: what it refuses, what it counts, what it keeps, and that it leaves no trace."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear
from torch import Tensor, nn

from saccade.attack import AttackWarning, pgd
from saccade.attack.engine import Search, kept, searching
from saccade.attack.losses import LOSSES
from saccade.errors import SaccadeError
from saccade.networks import Network

X = draw(7, 3, 8, 8)


@contextmanager
def search_on(network: nn.Module, x: Tensor = X, labels: Any = None, **settings: Any) -> Iterator[Search]:
    labels = labels_of(network, x) if labels is None else labels
    with searching(network, x, labels, operation="attack with this", **settings) as search:
        yield search


class Watched(nn.Module):
    """Notes the size of every batch; at the pass `fails` it does what it is told."""

    def __init__(self, inner: nn.Module, fails: int = -1, then: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.inner, self.fails, self.then = inner, fails, then
        self.sizes: list[int] = []
        self.train(inner.training)

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        scores: Tensor = self.inner(x)
        return self.then(scores) if self.then is not None and len(self.sizes) > self.fails else scores


class Broken(Exception):
    pass


def broken(scores: Tensor) -> Tensor:
    raise Broken


def not_a_number(scores: Tensor) -> Tensor:
    return scores * torch.nan


def state(network: nn.Module) -> list[Any]:
    found: list[Any] = [layer.training for layer in network.modules()]
    for parameter in network.parameters():
        found += [parameter.requires_grad, parameter.detach().clone(), parameter.grad]
    return found + [buffer.clone() for buffer in network.buffers()]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(u, v) if isinstance(u, Tensor) else u is v for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("fails", "then", "error"), [(-1, None, None), (4, broken, Broken), (4, not_a_number, SaccadeError)]
)
def test_leaves_no_trace(fails: int, then: Any, error: type[Exception] | None) -> None:
    """torchattacks switches frozen layers to train mode, and forgets to restore anything after an error."""
    network = Watched(conv_net(), fails, then)
    network.inner[0].weight.requires_grad_(False)
    network.inner[-1].bias.grad = torch.ones_like(network.inner[-1].bias)
    before, x, generator = state(network), X.clone().requires_grad_(), torch.get_rng_state()
    labels = labels_of(conv_net(), X)
    if error is None:
        found = pgd(network, x, labels)
        assert not found.adversarial.requires_grad
    else:
        with pytest.raises(error):
            pgd(network, x, labels, eps=0.001)
        assert len(network.sizes) == 5
    assert same(state(network), before)
    assert torch.equal(x, X)
    assert x.grad is None
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context: type[torch.no_grad]) -> None:
    network = conv_net()
    labels = labels_of(network, X)
    expected = pgd(network, X, labels)
    with context():
        found = pgd(network, X.clone(), labels.clone(), mask=torch.ones(8, 8))
    assert torch.equal(found.adversarial, expected.adversarial)


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_counts_every_pass_and_fills_every_batch(batch_size: int) -> None:
    network = Watched(conv_net())
    x = draw(23, 3, 8, 8)
    labels = labels_of(conv_net(), x)
    labels[:4] = (labels[:4] + 1) % 5  # four that are wrong before
    backwards: list[int] = []

    def watch(layer: nn.Module, given: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda slope: backwards.append(len(slope)))

    network.inner[-1].register_forward_hook(watch)
    found = pgd(network, x, labels, eps=0.02, batch_size=batch_size)
    assert 0 < found.success[4:].sum() < 19
    checks = 2 * min(2, len(x))  # whether the network is deterministic
    assert found.forwards.sum().item() == sum(network.sizes) - checks
    assert found.backwards.sum().item() == sum(backwards)
    assert found.forwards[:4].tolist() == [1] * 4
    assert found.backwards[:4].tolist() == [0] * 4
    robust = ~found.success
    assert (found.forwards[robust] == 12).all()  # clean, ten steps, the last look
    assert (found.backwards[robust] == 10).all()
    assert (found.forwards[found.success] <= 12).all()
    survivors = [int((found.forwards > k).sum()) for k in range(12)]
    expected = [min(batch_size, left - k) for left in survivors for k in range(0, left, batch_size)]
    sizes = network.sizes.copy()
    first = -(-23 // batch_size)
    del sizes[first : first + 2]
    assert sizes == expected  # nobody who left is run again, and all batches but the last of a step are full


def test_a_batch_of_fooled_pictures_is_not_carried_back() -> None:
    network = linear()
    x = draw(6, 3, 4, 4)
    labels = labels_of(network, x)
    with search_on(network, x, labels, norm="l2") as search:
        worst = x + 10 * (network.weight[1 - labels] - network.weight[labels])
        look = search.look(worst, search.every_row, stop=True)
        assert not look.gradient.any()
        assert search.backwards.tolist() == [0] * 6
        torch.testing.assert_close(look.loss, LOSSES["margin"](network(worst).detach(), search.aim(search.every_row)))
        assert search.look(worst, search.every_row).gradient.any()
        assert search.backwards.tolist() == [1] * 6


def test_a_look_is_the_gradient_of_the_loss() -> None:
    network = conv_net()
    labels, targets = labels_of(network, X), (labels_of(network, X) + 2) % 5
    mask = torch.arange(8) < 5
    for name, loss in LOSSES.items():
        for aimed in (None, targets):
            if name == "kl" and aimed is not None:
                continue
            z = X + 0.1 * (draw(*X.shape, seed=3) - 0.5)
            with search_on(network, X, labels, targets=aimed, loss=loss, mask=mask, batch_size=3) as search:
                rows = torch.tensor([5, 0, 2, 6])
                found = search.look(z[rows], rows, seed=4)
                leaf = z[rows].requires_grad_()
                value = loss(network(leaf), search.aim(rows, 4))
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
            torch.testing.assert_close(found.loss, value.detach())
            torch.testing.assert_close(found.gradient, gradient * mask, rtol=1e-7, atol=1e-12)
            assert gradient.any()


def test_views_are_averaged() -> None:
    network = conv_net()
    with search_on(network, loss=LOSSES["ce"], batch_size=4) as search:
        rows = search.every_row
        several = search.look(X, rows, views=lambda x: [x, x / 2, x.flip(3)])
        one_by_one = [search.look(X, rows), search.look(X / 2, rows), search.look(X.flip(3), rows)]
        assert search.forwards.tolist() == [7] * 7
        assert search.backwards.tolist() == [6] * 7
        torch.testing.assert_close(several.scores, one_by_one[0].scores)
        torch.testing.assert_close(several.loss, sum(look.loss for look in one_by_one) / 3)
        a, b, c = (look.gradient for look in one_by_one)
        torch.testing.assert_close(several.gradient, (a + b / 2 + c.flip(3)) / 3)


def test_slopes_are_rows_of_the_jacobian() -> None:
    network = conv_net()
    classes = torch.tensor([[0, 3], [1, 1], [4, 2], [0, 1], [2, 3], [3, 4], [0, 4]])
    with search_on(network, batch_size=3) as search:
        scores, found = search.slopes(X, search.every_row, classes)
        assert search.forwards.tolist() == [2] * 7
        assert search.backwards.tolist() == [2] * 7
    torch.testing.assert_close(scores, network(X).detach())
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x).sum(0), X)
    for i in range(7):
        torch.testing.assert_close(found[i], jacobian[classes[i], i])


def test_slopes_of_weighted_sums_of_the_scores() -> None:
    network = conv_net()
    weights = draw(7, 2, 5, seed=2) - 0.5
    with search_on(network, batch_size=3) as search:
        _, found = search.slopes(X, search.every_row, weights)
        _, each = search.slopes(X, search.every_row, torch.arange(5).expand(7, 5))
    torch.testing.assert_close(found, torch.einsum("nkc,ncdhw->nkdhw", weights, each))


def test_keeps_what_is_nearest_by_a_size_of_ones_own() -> None:
    network = linear()
    x = draw(1, 3, 4, 4)
    labels = labels_of(network, x)
    toward = network.weight[1 - labels] - network.weight[labels]
    with search_on(network, x, labels, norm="l2") as search:
        rows = search.every_row
        for reach, size in ((9.0, 3.0), (8.0, 5.0), (10.0, 1.0)):
            z = x + reach * toward
            search.offer(z, rows, search.ask(z, rows), size=torch.tensor([size]).double())
        result = search.result()
    torch.testing.assert_close(result.adversarial, (x + 10 * toward).detach())
    torch.testing.assert_close(result.norm, 10 * toward.detach().flatten(1).norm(dim=1))


def test_keeps_the_nearest_that_fools() -> None:
    network = linear()
    x = draw(2, 3, 4, 4)
    labels = labels_of(network, x)
    toward = network.weight[1 - labels] - network.weight[labels]
    with search_on(network, x, labels, norm="l2", loss=LOSSES["margin"]) as search:
        assert search.active.tolist() == [0, 1]
        losses = []
        for row, reach, fooled, kept_reach in [
            (0, 9.0, True, 9),
            (0, 7.0, True, 7),
            (0, 8.0, True, 7),
            (0, 0.0, False, 7),
        ]:
            rows = torch.tensor([row])
            z = x[rows] + reach * toward[rows]
            scores = search.ask(z, rows)
            losses.append(LOSSES["margin"](scores, search.aim(rows)).item())
            assert search.offer(z, rows, scores).tolist() == [fooled]
            torch.testing.assert_close(search.best[0], x[0] + kept_reach * toward[0])
        assert search.active.tolist() == [1]
        result = search.result()
    assert result.success.tolist() == [True, False]
    assert torch.equal(result.adversarial[1], x[1])  # a failure is the original, not an empty picture
    torch.testing.assert_close(result.norm, torch.stack([7 * toward[0].norm(), torch.tensor(0.0)]).detach().double())
    assert result.loss[0].item() == pytest.approx(max(losses))
    assert result.loss[1].item() < 0
    assert result.forwards.tolist() == [5, 1]


def test_wrong_ones_are_kept_as_they_came_and_originals_are_copied() -> None:
    network = conv_net()
    labels = (labels_of(network, X) + 1) % 5
    found = pgd(network, X, labels)
    assert found.success.all()
    assert torch.equal(found.adversarial, X)
    assert not found.norm.any()
    assert found.adversarial.data_ptr() != X.data_ptr()
    assert pgd(network, X, labels, targets=labels_of(network, X)).forwards.tolist() == [1] * 7


def test_compaction() -> None:
    a, b = torch.arange(3), torch.arange(6).view(3, 2)
    on = torch.tensor([True, False, True])
    left = kept(on, a, None, b)
    assert left[0].tolist() == [0, 2]
    assert left[1] is None
    assert left[2].tolist() == [[0, 1], [4, 5]]
    assert kept(on | True, a, b)[0] is a


def test_a_network_in_half_precision_is_run_in_it() -> None:
    """torchattacks raises dtype errors, or lets FGSM and PGD overshoot their budget, on bf16 networks."""
    seen = []
    network = conv_net(dtype=torch.bfloat16)
    network.register_forward_pre_hook(lambda layer, given: seen.append(given[0].dtype))
    x = X.float()
    with torch.no_grad():
        labels = network(x.bfloat16()).argmax(1)
    for norm, eps in (("linf", 8 / 255), ("l2", 1.0), ("l1", 8.0)):
        found = pgd(network, x, labels, norm=norm, eps=eps)
        assert found.adversarial.dtype == torch.float32
        size = torch.linalg.vector_norm(
            (found.adversarial.double() - x.double()).flatten(1), {"linf": float("inf"), "l2": 2, "l1": 1}[norm], dim=1
        )
        assert (size <= eps * (1 + 1e-6)).all()
        assert found.success.any()
        with torch.no_grad():
            said = network(found.adversarial.bfloat16()).argmax(1)
        assert ((said != labels) == found.success).all()
    assert set(seen) == {torch.bfloat16}
    wide = pgd(conv_net(), x, labels_of(conv_net(), X))  # float64 network, float32 pictures
    assert wide.adversarial.dtype == torch.float32


def test_networks_channels_last() -> None:
    """FAB and AutoAttack call view on the gradients of such networks and fail."""
    network = conv_net(dtype=torch.float32)
    expected = pgd(network, X.float(), labels_of(network, X.float()))
    network = network.to(memory_format=torch.channels_last)
    given = X.float().contiguous(memory_format=torch.channels_last)
    found = pgd(network, given, labels_of(network, given), norm="linf")
    assert torch.equal(found.success, expected.success)
    torch.testing.assert_close(found.adversarial, expected.adversarial, rtol=0, atol=1e-5)
    assert pgd(network, given, labels_of(network, given), norm="l1").adversarial.is_contiguous()


def test_warns_of_chance_and_of_masked_gradients() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x.mean((1, 2, 3)), 0.4 + 0.01 * torch.rand(len(x), dtype=x.dtype)], 1)

    generator = torch.get_rng_state()
    with pytest.warns(AttackWarning, match="different things of the same picture"):
        pgd(Noisy().eval(), X, 0)
    assert torch.equal(torch.get_rng_state(), generator)

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.mean((2, 3))
            return x * 0 + (10 * x).round().detach() + torch.tensor([0.5, 0.0, 0.0]).to(x)

    network = Rounded().eval()
    with pytest.warns(AttackWarning, match="gradient was zero everywhere for 7 pictures"):
        found = pgd(network, X, labels_of(network, X), eps=1e-4)
    assert not found.success.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pgd(conv_net(), X, labels_of(conv_net(), X), eps=1e-4)


class Answers(nn.Module):
    """Whatever `said` makes of the mean colours."""

    def __init__(self, said: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.said = said
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.said(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (
            Answers(lambda m: m[:, :1]),
            {},
            r"gives \(7, 1\) for 7 pictures, expected scores \(7, classes\) of two classes",
        ),
        (Answers(lambda m: (m, m)), {}, "gives tuple"),
        (Answers(lambda m: m[0]), {}, "expected scores"),
        (Answers(lambda m: m[:3]), {}, r"gives \(3, 3\) for 7 pictures"),
        (Answers(lambda m: m.softmax(1)), {}, "gives probabilities.*Leave its last softmax out"),
        (Answers(lambda m: m / 0), {}, "not finite"),
        (Answers(lambda m: m.detach()), {}, "do not depend on the pictures differentiably"),
        (Answers(lambda m: m.new_ones(len(m), 2) * torch.ones((), requires_grad=True)), {}, "differentiably"),
        (Answers(lambda m: m + (m - m.detach()).abs().sqrt()), {}, "gradient by the pictures is not finite"),
        (linear(3, (3, 8, 8)).train(), {}, r"2 layers|1 layers of the network are in train mode.*network.eval\(\)"),
        (nn.Sequential(nn.Dropout().train(), linear(3, (3, 8, 8))), {}, "train mode"),
        (linear(3, (3, 8, 8)).to("meta"), {}, "the network is on meta, the pictures on cpu"),
        (linear(3, (3, 8, 8)), {"labels": 3}, "no class 3: the network has 3"),
        (linear(3, (3, 8, 8)), {"targets": [0, 1]}, "2 targets were given for 7 pictures"),
        (linear(3, (3, 8, 8)), {"labels": "cat"}, "knows no names"),
        (linear(3, (3, 8, 8)), {"x": X[0]}, r"give picture\[None\]"),
        (linear(3, (3, 8, 8)), {"x": X[:0]}, "expected a tensor"),
        (linear(3, (3, 8, 8)), {"x": (255 * X).byte()}, "Divide 8-bit values by 255"),
        (linear(3, (3, 8, 8)), {"x": X.half()}, r"torch.float16, expected float32 or float64.*pictures.float\(\)"),
        (
            linear(3, (3, 8, 8)),
            {"x": X * 2 - 1},
            r"run from -0.9\d+ to 0.9\d+, expected \[0, 1\]. Undo a normalisation",
        ),
        (linear(3, (3, 8, 8)), {"x": X * 255}, r"expected \[0, 1\]"),
        (linear(3, (3, 8, 8)), {"x": X * torch.nan}, "from nan to nan"),
        (linear(3, (3, 8, 8)), {"mask": torch.full((8, 8), 0.5)}, "mask > 0.5"),
        (linear(3, (3, 8, 8)), {"mask": torch.ones(7, 7)}, r"the mask is \(7, 7\)"),
        (linear(3, (3, 8, 8)), {"eps": -0.1}, "eps is -0.1, expected finite numbers of 0 or more"),
        (linear(3, (3, 8, 8)), {"eps": float("nan")}, "eps is nan"),
        (linear(3, (3, 8, 8)), {"eps": [0.1, 0.2]}, r"eps has shape \(2,\) for 7 pictures"),
        (linear(3, (3, 8, 8)), {"alpha": -1.0}, "alpha is -1.0"),
        (linear(3, (3, 8, 8)), {"norm": "l7"}, "norm is 'l7', expected one of linf, l2, l1"),
        (linear(3, (3, 8, 8)), {"start": "corner"}, "start is 'corner', expected one of random"),
        (linear(3, (3, 8, 8)), {"steps": -1}, "steps is -1, expected 0 or more"),
        (linear(3, (3, 8, 8)), {"restarts": 0}, "restarts is 0, expected 1 or more"),
        (linear(3, (3, 8, 8)), {"loss": "mse"}, "no loss 'mse'"),
        (linear(3, (3, 8, 8)), {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_says_what_is_wrong(network: nn.Module, settings: dict[str, Any], message: str) -> None:
    given = {"x": X, "labels": 0, **settings}
    before = state(network)
    with pytest.raises(SaccadeError, match=message) as caught:
        pgd(network, given.pop("x"), given.pop("labels"), **given)
    assert "\n" not in str(caught.value)
    if next(iter(network.parameters()), torch.zeros(())).device.type != "meta":
        assert same(state(network), before)


def test_a_rounding_error_outside_the_range_is_none() -> None:
    network = linear(3, (3, 8, 8))
    x = X.clone()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -3e-8, 1 + 3e-8
    found = pgd(network, x, labels_of(network, X))
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1


def test_names_of_classes() -> None:
    network = Network(conv_net(), classes=("ant", "bee", "cat", "dog", "eel")).double().eval()
    said = labels_of(network, X)
    names = [network.classes[i] for i in said.tolist()]  # type: ignore[index]
    found = pgd(network, X, names, targets="cat", eps=0.3, steps=40)
    assert found.success.all()
    assert labels_of(network, found.adversarial).tolist() == [2] * 7
    assert torch.equal(found.adversarial[said == 2], X[said == 2])


def test_no_bias_of_a_linear_network_is_needed() -> None:
    """The helper of these tests: scores shift and scale as told."""
    weight = draw(2, 3, 2, 2)
    x = draw(1, 3, 2, 2)
    plain = Linear(weight)(x)
    torch.testing.assert_close(Linear(weight, scale=3.0, shift=-100.0)(x), 3 * plain - 100)
