"""One test for all architectures: what each of them promises."""

import pytest
import torch

from saccade.errors import SaccadeError
from saccade.networks import ARCHITECTURES, build

HEAVY = {"vgg16", "vgg19", "vgg16_bn", "vgg19_bn", "resnet101", "cifar-resnet110", "fast96"}
LIGHT = [name for name in ARCHITECTURES if name not in HEAVY]


@pytest.mark.parametrize("name", LIGHT)
def test_architecture(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=7)
    assert network.training
    x = torch.rand(3, 3, 32, 32)
    network(x).logsumexp(1).sum().backward()
    learning = {key: p for key, p in network.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning.values())

    network.eval()
    with torch.no_grad():
        together = network(x)
        assert together.shape == (3, 7)
        assert together.dtype == torch.float32
        alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)  # batch invariance
        last = network.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(last, together, rtol=1e-4, atol=1e-4)

    torch.manual_seed(0)
    again = build(name, num_classes=7)
    torch.manual_seed(0)
    same, other = build(name, num_classes=7), build(name, num_classes=7)
    weights = [torch.cat([p.detach().flatten() for p in n.parameters()]) for n in (again, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_heavy_architecture_takes_num_classes(name: str) -> None:
    with torch.device("meta"):
        assert list(build(name, num_classes=7).parameters())[-1].shape[0] == 7


def test_close_names_are_offered() -> None:
    with pytest.raises(SaccadeError, match=r"'resnet19'.*resnet18"):
        build("resnet19")
    with pytest.raises(SaccadeError, match=r"There are .*tinynet"):
        build("zzz")


def test_unknown_keywords_are_one_sentence() -> None:
    with pytest.raises(SaccadeError, match=r"colour.*num_classes"):
        build("resnet18", colour="red")
