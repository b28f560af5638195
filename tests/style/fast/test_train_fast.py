"""Training style networks: it learns, it resumes to the same bits, and it stops at what is not a number."""

from dataclasses import replace

import pytest
import torch
from style.fast.nets import SMALL, eye, pictures, style_network
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.pictures import resize, write
from saccade.style.eye import Eye
from saccade.style.fast.photographs import Photographs
from saccade.style.fast.train import FAST, FastRecipe, Training, train_fast
from saccade.style.objective import Objective

RECIPE = FastRecipe(steps=4, batch_size=2, size=32, style_size=32, shift=2, precision="fp32")
PHOTOGRAPHS = list(pictures(3, 40, 48))
STYLES = {"one": pictures(1, 40, 40, 5)[0]}


def trained(recipe=RECIPE, styles=STYLES, **settings):
    settings = {"network": eye(), "architecture": SMALL, **settings}
    return train_fast(PHOTOGRAPHS, styles, recipe=recipe, **settings)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_loss_falls():
    rows = []
    trained(replace(RECIPE, steps=40, rate=1e-2), callback=rows.append, log_every=10)
    assert [row.step for row in rows] == [10, 20, 30, 40]
    assert rows[-1].style < 0.7 * rows[0].style


@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, stability=1.0), replace(RECIPE, coarse=0.5, size=64, style_size=64)],
    ids=["plain", "stability", "coarse"],
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, recipe):
    class Stop(Exception):
        pass

    def stop(row):
        if row.step == 2:
            raise Stop

    styles = {"a": pictures(1, 64, 64, 5)[0], "b": pictures(1, 64, 64, 6)[0]}
    whole = trained(recipe, styles)
    with pytest.raises(Stop):
        trained(recipe, styles, callback=stop, log_every=1, checkpoint=tmp_path / "c.pt", save_every=0)
    assert (tmp_path / "c.pt").exists()
    torch.rand(1)  # the state of the global generator plays no part
    rows = []
    resumed = trained(recipe, styles, callback=rows.append, log_every=1, checkpoint=tmp_path / "c.pt")
    assert [row.step for row in rows] == [2, 3, 4]
    assert same(whole, resumed)
    assert same(resumed, trained(recipe, styles, checkpoint=tmp_path / "c.pt"))  # a finished run is not trained on
    with pytest.raises(SaccadeError, match="does not fit"):
        trained(replace(recipe, rate=1e-4), styles, checkpoint=tmp_path / "c.pt")


def test_the_seed_decides_and_the_global_generator_and_the_eye_are_left_alone():
    network = eye().train()
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.random.get_rng_state()
    first = trained(network=network)
    assert torch.equal(state, torch.random.get_rng_state())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not same(first, trained(replace(RECIPE, seed=1)))


def test_goes_on_from_another_network_without_changing_it():
    start = trained()
    before = {k: v.clone() for k, v in start.state_dict().items()}
    later = trained(replace(RECIPE, steps=1, rate=0.0), start=start)
    assert same(later, start)
    trained(start=start)
    assert all(torch.equal(before[k], v) for k, v in start.state_dict().items())
    with pytest.raises(SaccadeError, match="expected as many"):
        trained(styles={**STYLES, "two": STYLES["one"]}, start=start)


def test_validation_pictures_are_restyled_at_each_row():
    rows, seen = [], pictures(1, 20, 24, 8)
    network = trained(validation=seen, callback=rows.append, log_every=4)
    with torch.no_grad():
        assert_close(rows[0].pictures, network(seen))
    assert "pictures" not in rows[0].as_dict()


def test_stops_at_what_is_not_a_number_and_at_the_limit():
    with pytest.raises(SaccadeError, match="the loss became nan"):
        trained(preset=replace(FAST, content_weights=(float("nan"),)), log_every=1)
    assert trained(limit=0.0).meta["steps"] == 0


def test_stability_brings_shifted_and_noisy_pictures_closer():
    def drift(network):
        x, noise = pictures(1, 48, 48, 9), 0.1 * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float((network(x) - network((x + noise).clamp(0, 1))).abs().mean())

    recipe = replace(RECIPE, steps=20, rate=1e-2, noise=0.1)
    assert drift(trained(replace(recipe, stability=100.0))) < 0.7 * drift(trained(recipe))


@pytest.mark.parametrize("weights", [(0.2,) * 5, (0.0,) * 5])
def test_photographs_are_seen_as_the_whole_eye_sees_them_and_no_deeper(weights):
    preset = replace(FAST, style_weights=weights)
    targets = [STYLES["one"][None]]
    training = Training(Photographs(PHOTOGRAPHS), targets, eye(), preset, RECIPE, style_network(), torch.device("cpu"))
    seen, maps = training.content_eye(pictures(2, 32, 32)), training.eye(pictures(2, 32, 32))
    assert tuple(seen) == training.content_eye.names == training.eye.content_layers
    assert all(torch.equal(seen[name], maps[name]) for name in seen)


def test_every_step_sees_crops_of_its_own():
    seen = []

    class Watched(Photographs):
        def batch(self, count, size, *, seed, step):
            seen.append((seed, step))
            return super().batch(count, size, seed=seed, step=step)

    train_fast(Watched(PHOTOGRAPHS), STYLES, network=eye(), architecture=SMALL, recipe=replace(RECIPE, seed=7))
    assert seen == [(7, 0), (7, 1), (7, 2), (7, 3)]


def test_coarse_adds_the_style_losses_at_half_and_a_quarter_of_the_size():
    style, x, seen = pictures(1, 64, 80, 5), pictures(2, 64, 64), eye()
    recipe = replace(RECIPE, coarse=0.3)
    training = Training(Photographs(PHOTOGRAPHS), [style], seen, FAST, recipe, style_network(), torch.device("cpu"))
    found = training._style_loss(x, training.eye(x), training.targets[0])
    expected = sum(
        weight
        * Objective(
            Eye(seen, replace(FAST, content_weights=(0.0,))),
            torch.nn.functional.interpolate(x, scale_factor=1 / scale, mode="area"),
            [resize(style, (64 // scale, 80 // scale))],
        )
        .losses(torch.nn.functional.interpolate(x, scale_factor=1 / scale, mode="area"))
        .style
        for scale, weight in ((1, 1.0), (2, 0.3), (4, 0.3))
    )
    assert_close(found, expected)


def test_what_moves_with_the_picture_costs_no_stability():
    recipe = replace(RECIPE, stability=1.0, noise=0.0, shift=4)
    x, targets = pictures(2, 32, 32), [STYLES["one"][None]]
    training = Training(Photographs(PHOTOGRAPHS), targets, eye(), FAST, recipe, style_network(), torch.device("cpu"))
    training.fast = lambda pictures, style: pictures
    for training.step in range(6):
        assert float(training._unsteadiness(x, x, 0)) == 0
        assert float(training._unsteadiness(x, x.roll(1, 2), 0)) > 0.01


def test_crops_follow_from_seed_and_step_and_come_from_the_photographs():
    ramp = torch.stack(torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 80), indexing="ij"))
    photographs = Photographs([torch.cat([ramp, torch.zeros(1, 60, 80)])])
    batch = photographs.batch(6, 24, seed=1, step=2)
    assert torch.equal(batch, photographs.batch(6, 24, seed=1, step=2))
    assert not torch.equal(batch, photographs.batch(6, 24, seed=1, step=3))
    assert batch.shape == (6, 3, 24, 24)
    slopes = batch[:, 1].diff(dim=2).mean((1, 2)) * 80
    assert {bool(slope > 0) for slope in slopes} == {True, False}  # some are mirrored
    assert (slopes.abs() >= 0.95).all()  # never enlarged
    assert (slopes.abs() <= 60 / 24 * 1.05).all()  # never more than the shorter side


def test_photographs_of_a_folder_a_data_set_and_the_machine(tmp_path):
    for name, picture in (("b/x.png", PHOTOGRAPHS[0]), ("a.png", PHOTOGRAPHS[1])):
        write(picture, tmp_path / name)
    folder = Photographs(tmp_path)
    assert folder.count == 2
    assert_close(folder.photograph(0), PHOTOGRAPHS[1], atol=0.51 / 255, rtol=0)
    assert Photographs("scenes").photograph(0).shape == (3, 32, 32)
    assert Photographs().batch(1, 16, seed=0, step=0).shape == (1, 3, 16, 16)
    for missing, message in ((tmp_path / "none", "neither a folder nor a data set"), ([], "no photographs")):
        with pytest.raises(SaccadeError, match=message):
            Photographs(missing)
