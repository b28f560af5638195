"""Score-CAM against a loop over channels, one picture and one mask at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.explain.score_cam import score_cam


def net() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 5, 2), nn.Softplus())
    made[0].weight.data[2] = 0
    made[0].bias.data[2] = -1  # a dead channel
    return made.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)]).double()


def pictures() -> torch.Tensor:
    return torch.rand(3, 3, 8, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loop(network: nn.Sequential, x: torch.Tensor, target: list[int], layer: int, fill: torch.Tensor, softmax: bool):
    maps = []
    with torch.no_grad():
        for i in range(len(x)):
            a = network[: layer + 1](x[i : i + 1])[0]
            weights = []
            for k in range(len(a)):
                mask = F.interpolate(a[None, k : k + 1], size=(8, 11), mode="bilinear", align_corners=False)[0, 0]
                span = mask.max() - mask.min()
                mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
                picture = torch.zeros(1, 3, 8, 11, dtype=torch.float64)
                for c in range(3):
                    picture[0, c] = mask * x[i, c] + (1 - mask) * fill[c]
                black = torch.zeros_like(picture) + fill[:, None, None]
                weights.append(float(network(picture)[0, target[i]] - network(black)[0, target[i]]))
            w = torch.tensor(weights, dtype=torch.float64)
            if softmax:
                w = w.exp() / w.exp().sum()
            maps.append((w[:, None, None] * a).sum(0))
    return torch.stack(maps)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("fill", [0.0, torch.tensor([0.5, 0.1, 0.9], dtype=torch.float64)])
@pytest.mark.parametrize(("layer", "batch_size"), [(0, 4), (1, None), (1, 1), (3, None)])  # 0 and 3: below 0, too
def test_is_the_loop_of_the_paper(
    softmax: bool, fill: float | torch.Tensor, layer: int, batch_size: int | None
) -> None:
    x, target = pictures(), [3, 0, 2]
    given = fill[:, None, None] if isinstance(fill, torch.Tensor) else fill
    found = score_cam(
        net(),
        x,
        target,
        layer=str(layer),
        softmax=softmax,
        fill=given,
        relu=False,
        enlarge=False,
        batch_size=batch_size,
    )
    expected = loop(net(), x, target, layer, torch.zeros(3) + fill, softmax)
    assert_close(found, expected, rtol=1e-10, atol=1e-13)


def test_negative_weights_are_cut_off_by_the_relu() -> None:
    x = pictures()
    signed = score_cam(net(), x, 1, layer="1", softmax=False, relu=False)
    small = score_cam(net(), x, 1, layer="1", softmax=False, relu=False, enlarge=False)
    assert (signed < 0).any()
    expected = F.interpolate(small.clamp_min(0)[:, None], size=(8, 11), mode="bilinear")[:, 0]
    assert_close(score_cam(net(), x, 1, layer="1", softmax=False), expected)


def test_never_runs_more_rows_than_told_and_none_for_dead_channels() -> None:
    network, rows = net(), []
    network.register_forward_pre_hook(lambda part, inputs: rows.append(len(inputs[0])))
    score_cam(network, pictures(), 0, layer="1", batch_size=2)
    assert max(rows) == 2
    live = int((network[:2](pictures()).amax((2, 3)) > 0).sum())
    assert live < 3 * 6
    assert sum(rows) == 3 + 3 + live  # the pictures, and for each the one that is all hidden


def test_says_what_fill_is_expected() -> None:
    with pytest.raises(SaccadeError, match="Could not compute Score-CAM: fill has shape"):
        score_cam(net(), pictures(), 0, layer="1", fill=torch.zeros(2))
