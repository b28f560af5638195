"""JSMA: its pairs against the table of all pairs, and its known mistakes elsewhere."""

import pytest
import torch
from attack.nets import conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, linear, optimum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.attack.jsma import best_pairs, jsma
from saccade.errors import SaccadeError


def worth_of(a: Tensor, b: Tensor, free: Tensor) -> Tensor:
    """The table of all pairs, as in the paper."""
    rise, fall = a[:, None] + a, b[:, None] + b
    valid = (rise > 0) & (fall > 0) & free[:, None] & free & ~torch.eye(len(a), dtype=torch.bool)
    return (rise * fall).where(valid, -torch.inf)


@given(
    seed=st.integers(0, 10_000), d=st.integers(2, 30), tilt=st.floats(-2, 2), shift=st.floats(-1, 1), ties=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_the_best_pair_is_that_of_all_pairs(seed: int, d: int, tilt: float, shift: float, ties: bool) -> None:
    a, noise = draw(3, d, seed=seed) - 0.5, draw(3, d, seed=seed + 1) - 0.5
    b = tilt * a + noise + shift
    if ties:
        a, b = (4 * a).round() / 4, (4 * b).round() / 4
    free = draw(3, d, seed=seed + 2) > 0.3
    pair, found = best_pairs(a, b, free)
    for i in range(3):
        table = worth_of(a[i], b[i], free[i])
        assert found[i] == (table.max() > -torch.inf)
        if found[i]:
            torch.testing.assert_close(table[pair[i, 0], pair[i, 1]], table.max())


def test_keeps_its_promises() -> None:
    keeps_the_promises_of_minimum_norms(jsma, "l0", least=2, weak={"gamma": 0.0})


@pytest.mark.parametrize("theta", [1.0, -0.5])
def test_agrees_with_its_paper(theta: float) -> None:
    """One picture after another with the whole Jacobian and the table of all pairs."""
    network, x = conv_net(3, side=6), draw(6, 3, 6, 6)
    labels = labels_of(network, x)
    targets = (labels + 1) % 3
    found = jsma(network, x, labels, targets=targets, theta=theta, gamma=0.2)
    assert found.success.sum() >= 2
    for i in range(6):
        z, target = x[i].clone(), int(targets[i])
        free = ((z < 0.99) if theta > 0 else (z > 0.01)).flatten()
        for _ in range(round(0.2 * 108 / 2)):
            if network(z[None]).argmax() == target:
                break
            jacobian = torch.autograd.functional.jacobian(lambda z: network(z[None])[0], z).flatten(1)
            sign = 1 if theta > 0 else -1
            a, b = sign * jacobian[target], -sign * (jacobian.sum(0) - jacobian[target])
            table = worth_of(a, b, free)
            if table.max() == -torch.inf:
                break
            at = int(table.argmax())
            pair = torch.tensor([at // 108, at % 108])
            z.view(-1)[pair] = (z.view(-1)[pair] + theta).clamp(0, 1)
            free[pair] = False
        hit = bool(network(z[None]).argmax() == target)
        assert found.success[i] == hit
        torch.testing.assert_close(found.adversarial[i], z if hit else x[i])


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 4), (12, 3)])
def test_jsma_takes_any_number_of_classes_and_channels(classes: int, channels: int) -> None:
    """The target of torchattacks is the label plus one, modulo ten."""
    network, x = linear(classes, (channels, 6, 6)), draw(8, channels, 6, 6)
    labels = labels_of(network, x)
    found = jsma(network, x, labels, gamma=1.0)
    assert found.success.sum() >= 5
    least = optimum(network, x, labels, "l0")
    assert (found.norm >= least)[found.success].all()


def test_jsma_needs_no_table_of_all_pairs() -> None:
    """Of a picture of 64 x 64 that table takes 1.2 GB in float64."""
    a, b = draw(1, 3 * 64 * 64) - 0.5, draw(1, 3 * 64 * 64, seed=1) - 0.5
    pair, found = best_pairs(a, b, torch.ones_like(a, dtype=torch.bool))
    assert found.all()
    mine = a[0, pair[0]].sum() * b[0, pair[0]].sum()
    top = (a + b)[0].topk(300).indices
    table = worth_of(a[0, top], b[0, top], torch.ones(300, dtype=torch.bool))
    assert mine >= table.max() - 1e-12


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    for wrong in ({"theta": 0.0}, {"theta": 1.5}, {"gamma": 1.5}):
        with pytest.raises(SaccadeError, match="expected from -1 to 1 but 0, and a share"):
            jsma(network, x, 0, **wrong)
