"""A picture looked at in tiles costs what it costs whole, and so does its gradient."""

import pytest
import torch

from saccade.engine.guards import differentiable
from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.registry import build
from saccade.style.eye import Eye
from saccade.style.objective import Objective
from saccade.style.preset import Preset
from saccade.style.presets import PRESETS
from saccade.style.statistics import STATISTICS, Sliced
from saccade.style.tiles import Tiled, reach_of, tiles


def network(dtype: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    keywords = {"num_classes": 3, "widths": (8, 8, 8, 8), "units": (1, 1, 1, 1)}
    made = Network(build("tinynet", **keywords), architecture=("tinynet", keywords)).eval()
    return made.to(dtype)


def picture(h: int, w: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def both(objective: Objective, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = pictures.clone().requires_grad_()
    value = objective(x)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


@pytest.mark.parametrize("statistic", [name for name, each in STATISTICS.items() if each.additive])
@pytest.mark.parametrize(("h", "w"), [(96, 160), (101, 67)])
def test_same_value_and_gradient(statistic: str, h: int, w: int) -> None:
    eye = Eye(network(), Preset(statistic=STATISTICS[statistic], tv_weight=0.1, tv="nine-point", content_relative=True))
    content, style = picture(h, w, 1), picture(50, 70, 2)
    with differentiable(eye.network):
        whole = both(Objective(eye, content, [style]), picture(h, w, 3))
        cut = both(Tiled(eye, content, [style], tile=32), picture(h, w, 3))
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-10, atol=0)
    assert (cut[1] - whole[1]).norm() <= 1e-9 * whole[1].norm()


def test_same_with_masks_and_several_styles_in_float32() -> None:
    eye = Eye(network(torch.float32), PRESETS["saccade"])
    content, styles = picture(96, 90, 1, torch.float32), [picture(60, 60, k, torch.float32) for k in (2, 4)]
    masks = torch.zeros(2, 96, 90)
    masks[0, :, :40], masks[1, :, 40:] = 1, 1
    with differentiable(eye.network):
        whole = both(Objective(eye, content, styles, [1.0, 2.0], masks=masks), picture(96, 90, 3, torch.float32))
        cut = both(Tiled(eye, content, styles, [1.0, 2.0], masks=masks, tile=32), picture(96, 90, 3, torch.float32))
    torch.testing.assert_close(cut[0], whole[0], rtol=1e-5, atol=0)
    assert (cut[1] - whole[1]).norm() <= 1e-5 * whole[1].norm()


def test_tiles_cover_a_picture_once() -> None:
    reach = reach_of(Eye(network(), PRESETS["saccade"]), picture(8, 8, 0))
    count = torch.zeros(101, 67)
    for tile in tiles((101, 67), 32, reach):
        count[tile.rows, tile.columns] += 1
        assert tile.rows.start % reach.grid == 0
        assert tile.columns.start % reach.grid == 0
    assert (count == 1).all()


def test_a_halo_too_narrow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from saccade.style import tiles as module

    monkeypatch.setattr(module, "reach_of", lambda eye, like: replace(reach_of(eye, like), halo=0))
    eye = Eye(network(), PRESETS["saccade"])
    content, style = picture(96, 96, 1), picture(50, 70, 2)
    with differentiable(eye.network):
        whole = both(Objective(eye, content, [style]), picture(96, 96, 3))
        cut = both(Tiled(eye, content, [style], tile=32), picture(96, 96, 3))
    assert (cut[1] - whole[1]).norm() > 1e-3 * whole[1].norm()


def test_what_cannot_be_added_up_is_refused() -> None:
    eye = Eye(network(), Preset(statistic=Sliced()))
    with pytest.raises(SaccadeError, match="Sliced cannot be added up over tiles"):
        Tiled(eye, picture(64, 64, 1), [picture(64, 64, 2)], tile=32)
