"""Adversarial pictures as files: within the ball, read back, still fooling."""

from itertools import product
from pathlib import Path

import pytest
import torch
from attack.nets import conv_net, draw, labels_of
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.attack import fgsm, pgd
from saccade.attack.balls import distance
from saccade.attack.evaluate import export_8bit
from saccade.attack.evaluate.export8 import fooling_8bit, to_8bit
from saccade.errors import SaccadeError
from saccade.pictures import read


def on_grid(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (draw(*shape, seed=seed) * 255).round().to(dtype) / 255


def test_every_level_survives_the_file(tmp_path: Path) -> None:
    from saccade.pictures import write

    levels = (torch.arange(256).float() / 255).view(1, 16, 16).expand(3, 16, 16)
    write(levels, tmp_path / "a.png")
    assert torch.equal(read(tmp_path / "a.png"), levels)
    assert torch.equal(to_8bit(levels[None], levels[None], norm="linf", eps=0.0)[0], levels)


@settings(max_examples=20)
@given(
    norm=st.sampled_from(["linf", "l2", "l1", "l0"]),
    seed=st.integers(0, 1000),
    eps=st.floats(0.002, 0.5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_stays_in_the_ball_and_on_the_grid(norm: str, seed: int, eps: float, dtype: torch.dtype) -> None:
    x = on_grid(3, 3, 4, 4, seed=seed, dtype=dtype)
    change = draw(3, 3, 4, 4, seed=seed + 1, dtype=dtype) - 0.5
    if norm == "l0":
        eps, change = 5.0, change * (draw(3, 3, 4, 4, seed=seed + 2) > 0.9)
    else:
        change = change * (eps / distance(change, norm)).view(-1, 1, 1, 1)
    adversarial = (x + change).clamp(0, 1)
    eps = max(eps, float(distance(adversarial - x, norm).max()))
    found = to_8bit(x, adversarial, norm=norm, eps=eps)
    assert found.dtype == dtype
    assert torch.equal(found, ((found * 255).round().double() / 255).to(dtype))
    change = ((found * 255).round() - (x * 255).round()).double() / 255
    assert (distance(change, norm) <= eps * (1 + 1e-6)).all()
    assert (found - adversarial).abs().max() <= 1 / 255 + 1e-6


def test_as_few_values_as_will_do_go_inwards() -> None:
    """By looking at all choices of three values."""
    x = torch.tensor([10.0, 100.0, 200.0]).view(1, 3, 1, 1) / 255
    adversarial = x + torch.tensor([2.7, -1.6, 0.9]).view(1, 3, 1, 1) / 255
    for eps in torch.linspace(3.27, 3.9, 20).tolist():
        found = to_8bit(x, adversarial, norm="l2", eps=eps / 255)
        levels = ((found - x) * 255).round().flatten().tolist()
        choices = [c for c in product((3, 2), (-2, -1), (1, 0)) if sum(v * v for v in c) <= eps**2]
        inwards = lambda c: sum(a != b for a, b in zip(c, (3, -2, 1), strict=True))  # noqa: E731
        assert tuple(levels) in choices
        assert inwards(levels) == min(inwards(c) for c in choices)


def test_an_original_between_two_levels() -> None:
    x = torch.full((1, 3, 1, 1), 10.4 / 255)
    near = to_8bit(x, x + 0.5 / 255, norm="linf", eps=0.5 / 255)
    assert (near * 255).round().unique().tolist() == [10]  # 11 would be the nearest, and is too far away
    none = to_8bit(x, x + 0.3 / 255, norm="linf", eps=0.3 / 255)
    assert ((none - x).abs() > 0.3 / 255).all()  # no level is near enough


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5), ("l1", 6.0)])
def test_files_fool(norm: str, eps: float, tmp_path: Path) -> None:
    network, x = conv_net(dtype=torch.float32), on_grid(12, 3, 8, 8)
    labels = labels_of(network, x)
    found = pgd(network, x, labels, norm=norm, eps=eps, alpha=eps / 50, steps=100)
    hits = found.success
    assert hits.sum() >= 8
    made = export_8bit(network, x[hits], found.adversarial[hits], labels[hits], tmp_path, norm=norm, eps=eps)
    back = torch.stack([read(file) for file in made.files])
    assert torch.equal(back, made.pictures)
    assert [file.name for file in made.files][:2] == ["00000.png", "00001.png"]
    said = labels_of(network, back)
    assert torch.equal(said != labels[hits], made.fools)
    assert made.within.all()
    torch.testing.assert_close(made.norm, distance(back - x[hits], norm), rtol=1e-4, atol=1e-6)
    plain = labels_of(network, to_8bit(x[hits], found.adversarial[hits], norm=norm, eps=eps)) != labels[hits]
    assert torch.equal(made.mended, ~plain)
    assert made.mended.any() or norm == "l1"  # attacks stop at the boundary, and rounding goes back over it
    assert made.fools.sum() >= len(plain) - 1
    mended = int((made.mended & made.fools).sum())
    assert (f"{mended} of these had lost it" in str(made)) == (mended > 0)


def test_aims_at_the_target_still(tmp_path: Path) -> None:
    network, x = conv_net(dtype=torch.float32), on_grid(6, 3, 8, 8)
    labels = labels_of(network, x)
    targets = (labels + 1) % 5
    found = pgd(network, x, labels, targets=targets, eps=0.1)
    made = export_8bit(
        network, x, found.adversarial, labels, tmp_path, eps=0.1, targets=targets, names=[f"p{i}" for i in range(6)]
    )
    assert torch.equal(labels_of(network, made.pictures) == targets, made.fools)
    assert made.fools.sum() >= 5
    assert made.files[3] == tmp_path / "p3.png"


def test_says_what_is_lost(tmp_path: Path) -> None:
    """With less than half a level of budget nothing can move."""
    network, x = conv_net(dtype=torch.float32), on_grid(400, 3, 8, 8)
    with torch.no_grad():
        best = network(x).topk(2).values
    x = x[(best[:, 0] - best[:, 1]).argsort()[:8]]  # near the boundary
    labels = labels_of(network, x)
    found = pgd(network, x, labels, eps=0.45 / 255, steps=40)
    hits = found.success
    assert hits.any()
    made = export_8bit(network, x[hits], found.adversarial[hits], labels[hits], tmp_path, eps=0.45 / 255)
    assert torch.equal(made.pictures, x[hits])
    assert not made.fools.any()
    assert "do not fool it as 8-bit values" in str(made)
    assert made.rows()[0] == {
        "file": "00000.png", "fools": False, "within_budget": True, "mended": True, "norm": 0.0,
    }  # fmt: skip


def test_what_fools_as_it_is_is_left_alone() -> None:
    network, x = conv_net(dtype=torch.float32), on_grid(8, 3, 8, 8)
    labels = labels_of(network, x)
    found = fgsm(network, x, labels, eps=40 / 255)
    hits = found.success
    coarse, lost = fooling_8bit(network, x[hits], found.adversarial[hits], labels[hits], norm="linf", eps=40 / 255)
    kept = ~lost
    assert kept.any()
    torch.testing.assert_close(coarse[kept], found.adversarial[hits][kept], rtol=0, atol=1e-6)  # 40/255 are levels


@pytest.mark.parametrize(
    ("channels", "other", "names", "message"),
    [
        (1, None, None, "expected one shape"),
        (3, (2, 3, 8, 9), None, "expected one shape"),
        (3, None, ["a", "a"], "names"),
    ],
)
def test_refuses(
    channels: int, other: tuple[int, ...] | None, names: list[str] | None, message: str, tmp_path: Path
) -> None:
    x = on_grid(2, channels, 8, 8)
    adversarial = x if other is None else torch.zeros(other)
    with pytest.raises(SaccadeError, match=message):
        export_8bit(conv_net(channels=channels), x, adversarial, [0, 1], tmp_path / "folder", names=names)
    assert not (tmp_path / "folder").exists()
