"""DeepFool against the closed form of linear networks, and against its paper written plainly."""

from functools import partial

import pytest
import torch
from attack.nets import LINEAR, conv_net, draw, keeps_the_promises_of_minimum_norms, labels_of, linear, ratios

from saccade.attack.deepfool import REMAINING, deepfool
from saccade.errors import SaccadeError


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("classes", "scale", "shift", "binary"), LINEAR)
def test_meets_the_optimum_of_linear_networks(
    norm: str, classes: int, scale: float, shift: float, binary: bool
) -> None:
    found = ratios(partial(deepfool, norm=norm), norm, classes, scale=scale, shift=shift, binary=binary)
    assert found.min() > 1
    assert found.max() <= 1.05


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_keeps_its_promises(norm: str) -> None:
    keeps_the_promises_of_minimum_norms(partial(deepfool, norm=norm), norm, least=10, targeted=False, weak={"steps": 0})


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_agrees_with_its_paper(norm: str) -> None:
    """One picture after another, far from the borders of the box, all classes in every step."""
    network, x = conv_net(), 0.4 + 0.2 * draw(10, 3, 8, 8)
    labels = labels_of(network, x)
    found = deepfool(network, x, labels, norm=norm, overshoot=0.02)
    dual = {"l2": 2, "linf": 1}[norm]
    steps = []
    for i, label in enumerate(labels.tolist()):
        total, count = torch.zeros_like(x[i]), 0
        while network((x[i] + 1.02 * total)[None]).argmax().item() == label:
            z = (x[i] + 1.02 * total)[None]
            scores = network(z)[0].detach()
            jacobian = torch.autograd.functional.jacobian(lambda z: network(z)[0], z)[:, 0]
            far = torch.full((5,), torch.inf, dtype=torch.float64)
            for k in range(5):
                if k != label:
                    far[k] = (scores[k] - scores[label]).abs() / (jacobian[k] - jacobian[label]).norm(dual)
            k = int(far.argmin())
            w = jacobian[k] - jacobian[label]
            reach = max(far[k].item(), 0.005 * total.norm(2 if norm == "l2" else float("inf")).item())
            total, count = total + reach * (w / w.norm() if norm == "l2" else w.sign()), count + 1
        torch.testing.assert_close(found.adversarial[i], x[i] + 1.02 * total, rtol=0, atol=1e-9)
        steps.append(count)
    assert found.forwards.tolist() == [1 + 2 * n for n in steps]  # the first scores are known
    assert found.backwards.tolist() == [4 + REMAINING * (n - 1) for n in steps]
    assert max(steps) > 1


def test_passes_the_boundary_by_as_much_as_told() -> None:
    network, x = linear(2), draw(10, 3, 4, 4)
    labels = labels_of(network, x)
    near, far = (deepfool(network, x, labels, overshoot=o) for o in (1e-4, 0.5))
    assert near.success.all()
    assert (far.norm > 1.4 * near.norm).all()


@pytest.mark.parametrize(("classes", "looked", "passes"), [(2, 10, 1), (5, 2, 1), (5, 3, 2), (20, 10, 9)])
def test_looks_at_the_nearest_classes_alone(classes: int, looked: int, passes: int) -> None:
    network, x = linear(classes), draw(10, 3, 4, 4)
    found = deepfool(network, x, labels_of(network, x), classes=looked)
    assert found.success.all()
    assert found.backwards.tolist() == [passes] * 10  # of a linear network, one step


def test_leaves_no_gradients_and_works_where_they_are_off() -> None:
    """The DeepFool of torchattacks adds to the gradients of the weights, and takes three channels or ten classes."""
    network = conv_net(7, channels=1)
    x = draw(4, 1, 8, 8)
    labels = labels_of(network, x)
    with torch.no_grad():
        found = deepfool(network, x, labels)
    assert found.success.all()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_says_what_is_wrong() -> None:
    network, x = conv_net(), draw(2, 3, 8, 8)
    with pytest.raises(SaccadeError, match="Could not attack with DeepFool: norm is 'l1', expected one of linf, l2"):
        deepfool(network, x, 0, norm="l1")
    with pytest.raises(SaccadeError, match="classes is 1, expected a finite number, 2 or more"):
        deepfool(network, x, 0, classes=1)
    with pytest.raises(SaccadeError, match="overshoot is nan"):
        deepfool(network, x, 0, overshoot=float("nan"))
