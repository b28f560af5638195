"""Plain, residual and bottleneck pre-activation networks against their definition in the course."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.networks import preact

BLOCKS = [preact.PlainBlock, preact.ResidualBlock, preact.ResidualBottleneckBlock]


def norm(x: Tensor) -> Tensor:
    """A fresh batch norm in training mode."""
    return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("cin", "cout", "down"), [(8, 8, False), (8, 16, False), (8, 8, True), (8, 16, True)])
@pytest.mark.parametrize("side", [8, 7])
def test_block_is_its_definition(block: type[nn.Module], cin: int, cout: int, down: bool, side: int) -> None:
    torch.manual_seed(0)
    made = block(cin, cout, down)
    x = torch.randn(4, cin, side, side)
    convs = [m for m in made.modules() if isinstance(m, nn.Conv2d)]
    shortcut: Tensor | float = 0.0
    if block is not preact.PlainBlock:
        if down or cin != cout:
            extra = convs.pop()
            assert extra.kernel_size == (1, 1)
            shortcut = F.conv2d(x, extra.weight, extra.bias, stride=2 if down else 1)
        else:
            shortcut = x
    sizes = [1, 3, 1] if block is preact.ResidualBottleneckBlock else [3, 3]
    widths = [cin, cout // 4, cout // 4, cout] if len(sizes) == 3 else [cin, cout, cout]
    y = x
    for i, (conv, k) in enumerate(zip(convs, sizes, strict=True)):
        assert conv.weight.shape == (widths[i + 1], widths[i], k, k)
        stride = 2 if down and i == 0 else 1
        y = F.conv2d(norm(y).clamp(min=0), conv.weight, conv.bias, stride=stride, padding=k // 2)
    out = made(x)
    torch.testing.assert_close(out, y + shortcut, rtol=1e-4, atol=1e-5)
    assert out.shape == (4, cout, *([(side + 1) // 2 if down else side] * 2))


@pytest.mark.parametrize(
    ("make", "parameters", "convs", "block"),
    [
        (preact.plain32, 117_386, 31, preact.PlainBlock),
        (preact.resnet32, 118_074, 31, preact.ResidualBlock),
        (preact.resnet47, 129_146, 46, preact.ResidualBottleneckBlock),
    ],
)
def test_networks_of_the_course(make, parameters: int, convs: int, block: type[nn.Module]) -> None:  # type: ignore
    network = make()
    assert sum(p.numel() for p in network.parameters()) == parameters
    main = [m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in name]
    assert len(main) == convs
    assert all(m.bias is not None for m in main)
    assert sum(type(m) is block for m in network.modules()) == 15
    for side in (32, 9):  # the average is over any size
        assert network(torch.randn(2, 3, side, side)).shape == (2, 10)
    assert make(num_classes=3)(torch.randn(1, 3, 8, 8)).shape == (1, 3)


def test_resnet_is_stem_stages_average_linear() -> None:
    torch.manual_seed(0)
    network = preact.ResNet([(4, 4, 1, False), (4, 6, 2, True)], Cin=2, num_classes=5).eval()
    x = torch.randn(3, 2, 12, 10)
    stem = network.stem[0]
    assert isinstance(stem, nn.Conv2d)
    y = F.conv2d(x, stem.weight, stem.bias, padding=1).clamp(min=0)
    y = network.stages(y)
    assert y.shape == (3, 6, 6, 5)
    expected = y.sum((2, 3)) / 30 @ network.fc.weight.T + network.fc.bias
    torch.testing.assert_close(network(x), expected)


def test_stage_changes_shape_in_its_first_block_only() -> None:
    stage = preact.ResNetStage(4, 8, 3)
    assert [tuple(b(torch.randn(2, c, 8, 8)).shape) for b, c in zip(stage, (4, 8, 8), strict=True)] == [
        (2, 8, 4, 4),
        (2, 8, 8, 8),
        (2, 8, 8, 8),
    ]


def test_a_residual_network_of_zero_branches_passes_its_input_on() -> None:
    stage = preact.ResNetStage(4, 4, 5, downsample=False)
    for block in stage:
        assert isinstance(block, preact.ResidualBlock)
        for parameter in block.block.net[-1].parameters():
            nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(stage(x), x)
