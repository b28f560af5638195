"""The training loop against plain PyTorch, and what it does when things go wrong."""

import importlib
import math
import os
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from saccade.data.batches import Batches
from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.precision import Precision
from saccade.engine.run import Run, read_metrics
from saccade.engine.seeding import generator
from saccade.errors import SaccadeError
from saccade.networks.fast import FastNet
from saccade.networks.network import Network
from saccade.networks.zoo import load
from saccade.train.fit import fit
from saccade.train.monitor import CollapseWarning, Monitor
from saccade.train.schedule import factor
from saccade.train.state import Fit

FP32 = Precision("fp32", "test")


def weights(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns(images, network, recipe):
    net = network()
    rows = []
    fitted = fit(net, images(96), recipe(epochs=8), val=images(40, seed=1), callback=rows.append, precision=FP32)
    assert fitted.network is net
    assert not net.training
    assert rows == fitted.history
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["val_accuracy"] > 0.9
    assert fitted.best == max(row["val_accuracy"] for row in rows)
    assert fitted.epochs == 8
    assert [row["step"] for row in rows] == [6 * (epoch + 1) for epoch in range(8)]
    assert [row["epoch"] for row in rows] == list(range(8))


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_the_loop_is_plain_pytorch(images, network, recipe, clip):
    """The same batches through the twelve lines that everyone writes."""
    data = images(48)
    plan = recipe(epochs=2, clip=clip, schedule="cosine", warmup=0.3, weight_decay=0.01, decay_all=True, momentum=0.8)
    fitted = fit(network(), data, plan, precision=FP32, log_every=1)

    net = network().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.8, nesterov=True, weight_decay=0.01)
    batches = Batches(data, batch_size=16, augment=plan.augment, seed=0)
    losses, step = [], 0
    for epoch in range(2):
        for x, y in batches.epoch(epoch):
            for group in optimiser.param_groups:
                group["lr"] = plan.lr * factor(step, 6, plan)
            loss = F.cross_entropy(net(x), y)
            optimiser.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimiser.step()
            losses.append(float(loss.detach()))
            step += 1
    for key, value in net.state_dict().items():
        torch.testing.assert_close(fitted.network.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    assert [row["loss"] for row in fitted.history] == pytest.approx(losses, rel=1e-5)
    assert [row["rate"] for row in fitted.history] == [factor(step, 6, plan) for step in range(6)]


def test_rows_hold_the_mean_loss_since_the_last(images, network, recipe):
    plan = recipe(epochs=2, flip="random")
    every = [row["loss"] for row in fit(network(), images(80), plan, precision=FP32, log_every=1).history]
    rows = fit(network(), images(80), plan, precision=FP32, log_every=3).history
    assert [row["step"] for row in rows] == [3, 5, 6, 9, 10]
    pieces = [every[0:3], every[3:5], every[5:6], every[6:9], every[9:10]]
    assert [row["loss"] for row in rows] == pytest.approx([sum(p) / len(p) for p in pieces], rel=1e-5)


def test_the_seed_decides_and_nothing_outside(images, network, recipe):
    plan = {"flip": "random", "translate": 2, "mixup": 0.5, "epochs": 2}
    runs = []
    for outside, seed in ((1, 0), (2, 0), (1, 5)):
        torch.manual_seed(outside)
        runs.append(weights(fit(network(), images(48), recipe(**plan, seed=seed), precision=FP32).network))
    assert equal(runs[0], runs[1])
    assert not equal(runs[0], runs[2])


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_random_state_alone(images, network, recipe, fails):
    def callback(row):
        if fails:
            raise ZeroDivisionError

    net, data = network(), images(48)
    before = torch.get_rng_state()
    try:
        fit(net, data, recipe(flip="random", mixup=0.5), val=data, precision=FP32, callback=callback)
    except ZeroDivisionError:
        assert fails
    assert torch.equal(before, torch.get_rng_state())


def test_the_averaged_network_is_returned_and_validated(images, network, recipe, monkeypatch):
    """The average recomputed from the weights after every step: half-life in epochs, held back at first."""
    plan, data, val = recipe(ema=0.25, epochs=2), images(64), images(20, seed=1)
    trail = [weights(network())]
    advance = Fit.advance

    def spy(self, *batch):
        advance(self, *batch)
        trail.append(weights(self.network))

    monkeypatch.setattr(Fit, "advance", spy)
    net = network()
    fitted = fit(net, data, plan, val=val, precision=FP32)
    decay = 0.5 ** (1 / (0.25 * 4))
    average = {key: value.double() for key, value in trail[0].items()}
    for t, after in enumerate(trail[1:]):
        d = min(decay, (1 + t) / (10 + t))
        average = {key: d * average[key] + (1 - d) * after[key].double() for key in average}
    assert fitted.network is not net
    assert equal(weights(net), trail[-1])
    for key, value in fitted.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), average[key], rtol=1e-4, atol=1e-6)
    row = fitted.history[-1]
    assert row["val_accuracy"] != row["val_accuracy_raw"] or row["val_loss"] > 0


def test_without_validation(images, network, recipe):
    for val in (None, images(8).subset([])):
        fitted = fit(network(), images(32), recipe(epochs=1, patience=1), val=val, precision=FP32)
        assert fitted.best == 0
        assert not any(key.startswith("val") for key in fitted.history[-1])


# ---- whitening


def fast_network():
    torch.manual_seed(0)
    module = FastNet(num_classes=4, widths=(8, 8, 8))
    return Network(module, architecture=("fast", {"num_classes": 4, "widths": (8, 8, 8)}))


def test_the_bias_of_the_whitening_layer_is_trained_for_its_epochs_only(images, recipe):
    net, biases = fast_network(), []
    filters = net.module.whitening.weight.detach().clone()
    plan = recipe(epochs=4, whiten=True, whiten_bias_epochs=2, lr=0.01, momentum=0.9)
    first = net.module.whitening.bias.detach().clone()
    bias = net.module.whitening.bias
    fit(net, images(32), plan, precision=FP32, callback=lambda row: biases.append(bias.detach().clone()))
    assert not torch.equal(first, biases[0])
    assert not torch.equal(biases[0], biases[1])
    assert torch.equal(biases[1], biases[2])
    assert torch.equal(biases[2], biases[3])
    assert torch.equal(filters, net.module.whitening.weight)
    assert net.module.whitening.bias.requires_grad  # as it was before
    assert not net.module.whitening.weight.requires_grad


# ---- early stop


def test_early_stop(images, network, recipe, tmp_path):
    """A learning rate of nothing: the first epoch stays the best."""
    plan = recipe(epochs=9, lr=1e-12, patience=2, schedule="constant", warmup=0.0)
    val = images(12, seed=1)
    run = Run(tmp_path, plan.as_dict())
    fitted = fit(network(), images(32), plan, val=val, run=run, precision=FP32)
    accuracies = [row["val_accuracy"] for row in fitted.history]
    best = accuracies.index(max(accuracies))
    assert fitted.epochs == best + 3
    assert len(accuracies) == best + 3
    assert fitted.epochs < 9
    again = fit(network(), images(32), plan, val=val, run=Run(tmp_path, plan.as_dict()), precision=FP32)
    assert again.epochs == fitted.epochs  # a stopped run stays stopped
    assert again.history == fitted.history
    assert equal(weights(again.network), weights(fitted.network))


def test_early_stop_counts_on_after_a_resume(images, network, recipe, tmp_path):
    plan = recipe(epochs=9, lr=1e-12, patience=3, schedule="constant", warmup=0.0)
    data, val = images(32), images(12, seed=1)
    whole = fit(network(), data, plan, val=val, precision=FP32, log_every=1)

    def interrupt(row):
        if row["step"] in (3, 5):
            raise KeyboardInterrupt

    for callback in (interrupt, interrupt, None):
        run = Run(tmp_path, plan.as_dict())
        try:
            fitted = fit(network(), data, plan, val=val, run=run, precision=FP32, callback=callback, log_every=1,
                         save_every=-1)  # fmt: skip
        except KeyboardInterrupt:
            continue
    assert fitted.epochs == whole.epochs
    assert [row["step"] for row in fitted.history] == [row["step"] for row in whole.history]


# ---- adversarial training


def by_hand(network, data, plan, change_weights):
    """The loop of a recipe in plain PyTorch, where `change_weights(net, optimiser, x, y, step)` does a batch."""
    net = network().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0, momentum=0.9, nesterov=True)
    batches, step = Batches(data, batch_size=16, augment=plan.augment, seed=0), 0
    steps = plan.epochs * len(batches)
    for epoch in range(plan.epochs):
        for x, y in batches.epoch(epoch):
            for group in optimiser.param_groups:
                group["lr"] = plan.lr * factor(step, steps, plan)
            change_weights(net, optimiser, x, y, step)
            step += 1
    return weights(net)


def close(found, expected):
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


def linf_ascent(x, steps, step, objective, eps=0.05):
    """Projected sign ascent from a uniform start, with the random numbers of the loop."""
    noise = generator(0, step, 0, 1)
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    worst = (x + (torch.rand(x.shape, generator=noise) * 2 - 1) * eps).clamp(0, 1)
    for _ in range(steps):
        (g,) = torch.autograd.grad(objective(worst.requires_grad_()), worst)
        worst = (worst.detach() + 2.5 / steps * eps * g.sign()).clamp(low, high)
    return worst


def l2_ascent(x, steps, step, objective, eps=0.3):
    """The same in the Euclidean ball, along the direction of the gradient."""
    noise, size = generator(0, step, 0, 1), x[0].numel()
    start = F.normalize(torch.randn(x.shape, generator=noise).flatten(1))
    change = (start * eps * torch.rand(len(x), 1, generator=noise) ** (1 / size)).view_as(x)
    worst = (x + change).clamp(0, 1)
    for _ in range(steps):
        (g,) = torch.autograd.grad(objective(worst.requires_grad_()), worst)
        change = (worst.detach() - x).flatten(1) + 2.5 / steps * eps * F.normalize(g.flatten(1))
        change *= (eps / change.norm(dim=1, keepdim=True)).clamp(max=1)
        worst = (x + change.view_as(x)).clamp(0, 1)
    return worst


def kl(reference, logits):
    p = reference.softmax(1)
    return (p * (p.log() - logits.log_softmax(1))).sum(1)


def test_trades_in_plain_pytorch(images, network, recipe):
    data = images(48)
    plan = recipe(epochs=2, lr=0.02, weight_decay=0.0, adversarial="l2", eps=0.3, attack_steps=3, defence="trades",
                  beta=4.0)  # fmt: skip

    def batch(net, optimiser, x, y, step):
        reference = net(x).detach()
        worst = l2_ascent(x, 3, step, lambda p: kl(reference, net(p)).sum())
        z, clean = net(worst), net(x)
        optimiser.zero_grad()
        (F.cross_entropy(clean, y) + 4.0 * kl(clean, z).mean()).backward()
        optimiser.step()

    close(weights(fit(network(), data, plan, precision=FP32).network), by_hand(network, data, plan, batch))


def test_mart_with_worse_weights_in_plain_pytorch(images, network, recipe):
    data, plan = images(48), recipe(epochs=2, lr=0.02, weight_decay=0.0, adversarial="linf", eps=0.05, attack_steps=2,
                                    defence="mart", beta=5.0, awp=0.01)  # fmt: skip

    def loss(net, x, worst, y):
        z, p = net(worst), net(x).softmax(1)
        q = z.softmax(1)
        rival = q.scatter(1, y[:, None], 0.0).amax(1)
        right = p.gather(1, y[:, None])[:, 0]
        return (F.cross_entropy(z, y, reduction="none") - (1 - rival).log()
                + 5.0 * (1 - right) * (p * (p.log() - q.log())).sum(1)).mean()  # fmt: skip

    def batch(net, optimiser, x, y, step):
        worst = linf_ascent(x, 2, step, lambda p: F.cross_entropy(net(p), y, reduction="sum"))
        optimiser.zero_grad()
        loss(net, x, worst, y).backward()
        kept = [p.detach().clone() for p in net.parameters()]
        with torch.no_grad():
            for p in net.parameters():
                if p.ndim > 1:
                    p += 0.01 * p.norm() / p.grad.norm() * p.grad
        optimiser.zero_grad()
        loss(net, x, worst, y).backward()
        with torch.no_grad():
            for p, value in zip(net.parameters(), kept, strict=True):
                p.copy_(value)
        optimiser.step()

    close(weights(fit(network(), data, plan, precision=FP32).network), by_hand(network, data, plan, batch))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_free_training_in_plain_pytorch(images, network, recipe, norm):
    """Each backward pass serves both; the perturbation goes on from batch to batch; exactly three passes a batch."""
    data, plan = images(48), recipe(epochs=2, lr=0.01, weight_decay=0.0, adversarial=norm, eps=0.1, attack_steps=3,
                                    defence="free")  # fmt: skip
    change = torch.zeros(16, 3, 12, 12)

    def batch(net, optimiser, x, y, step):
        nonlocal change
        for _ in range(3):
            seen = (x + change).clamp(0, 1).requires_grad_()
            optimiser.zero_grad()
            F.cross_entropy(net(seen), y).backward()
            g = seen.grad
            if norm == "linf":
                change = (seen.detach() - x + 0.1 * g.sign()).clamp(-0.1, 0.1)
            else:
                change = seen.detach() - x + 0.1 * F.normalize(g.flatten(1)).view_as(g)
                change *= (0.1 / change.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
            change = (x + change).clamp(0, 1) - x
            optimiser.step()

    net, passes = network(), []
    net.register_forward_hook(lambda *_: passes.append(1))
    fitted = fit(net, data, plan, precision=FP32)
    assert len(passes) == 3 * 3 * 2
    close(weights(fitted.network), by_hand(network, data, plan, batch))


@pytest.mark.parametrize(("defence", "judge"), [("at", "evaluate_under_attack"), ("ibp", "certified_accuracy")])
def test_the_best_epoch_is_that_of_what_is_trained_for(images, network, recipe, monkeypatch, tmp_path, defence, judge):
    """Under attack, or certified, 0.2, 0.5, 0.3, whatever the plain accuracies are."""
    given = iter((0.2, 0.5, 0.3))
    validate = importlib.import_module("saccade.train.validate")
    monkeypatch.setattr(validate, "evaluate_under_attack", lambda *_, **settings: 0.1)
    monkeypatch.setattr(validate, "certified_accuracy", lambda *_, **settings: 0.05)
    monkeypatch.setattr(validate, judge, lambda *_, **settings: next(given))
    plan = recipe(epochs=3, adversarial="linf", eps=0.01, defence=defence, attack_steps=2)
    fitted = fit(network(), images(16), plan, val=images(8), precision=FP32, run=Run(tmp_path, plan.as_dict()))
    assert fitted.best == 0.5
    assert load(str(tmp_path / "best.safetensors")).meta["epoch"] == 1


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_collapse_takes_training_back(images, network, recipe, monkeypatch, tmp_path, interrupted):
    """Accuracies under attack of 0.4, 0.6, 0.1: everything is again as after the second epoch, and three steps from
    then on, with a note and a warning; also where the run stopped in between and its memory is only on the disk."""
    robust, used, before, done = (0.4, 0.6, 0.1, 0.3), [], {}, 0
    advance = Fit.advance

    def spy(self, *batch):
        nonlocal done, interrupted
        if interrupted and self.step == 2:
            interrupted = False
            raise KeyboardInterrupt
        before[self.step] = weights(self.network), plain_numbers(self.values())
        advance(self, *batch)
        done = self.step

    def perturbed(net, x, y, **settings):
        used.append(settings["steps"])
        return x

    monkeypatch.setattr(Fit, "advance", spy)
    monkeypatch.setattr(importlib.import_module("saccade.train.defence"), "perturb", perturbed)
    monkeypatch.setattr(
        importlib.import_module("saccade.train.validate"),
        "evaluate_under_attack",
        lambda *_, **settings: robust[done - 1],
    )
    monkeypatch.setattr(Monitor, "measure", lambda *_: (robust[done - 1], 0.9))
    plan = recipe(adversarial="linf", eps=0.1, epochs=4, ema=0.5)

    def go():
        return fit(network(), images(16), plan, val=images(8), precision=FP32, run=Run(tmp_path, plan.as_dict()))

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            go()
    with pytest.warns(CollapseWarning, match=r"Epoch 3 of test: single-step training collapsed; back to"):
        fitted = go()
    assert used == [1, 1, 1, 3]
    assert before[3][1] == before[2][1]
    assert not equal(before[2][0], before[1][0])
    assert [row["val_accuracy_attacked"] for row in fitted.history] == list(robust)
    assert ["note" in row for row in fitted.history] == [False, False, True, False]


def plain_numbers(values):
    """Nested values with tensors as lists, to compare by ==; without the learning rates, which follow the step."""
    if isinstance(values, torch.Tensor):
        return values.tolist()
    if isinstance(values, dict):
        return {key: plain_numbers(value) for key, value in values.items() if key != "lr"}
    return [plain_numbers(value) for value in values] if isinstance(values, list | tuple) else values


# ---- when things go wrong: one sentence, and earlier results stay


def snapshot(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".pt", ".safetensors")}


@pytest.fixture
def plan(recipe):
    return recipe(epochs=3, ema=0.5, flip="random")


@pytest.fixture
def go(images, network, plan, tmp_path):
    """Train, or go on, in a folder."""

    def run(folder=tmp_path / "run", **changes):
        settings = {"val": images(12, seed=1), "precision": FP32, "log_every": 2, "save_every": -1, **changes}
        return fit(network(), images(64), plan, run=Run(folder, plan.as_dict()), **settings)

    return run


@pytest.fixture
def expected(go, tmp_path):
    """The weights of an undisturbed run."""
    return weights(go(tmp_path / "undisturbed").network)


def rows_once(folder):
    steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_a_loss_that_is_not_a_number(go, expected, tmp_path, monkeypatch):
    folder, update, kept = tmp_path / "run", Fit.update, {}

    def poisoned(self, *batch):
        loss = update(self, *batch)
        if self.step == 6:
            kept.update(snapshot(folder))
        return loss * math.nan if self.step >= 6 else loss

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "update", poisoned)
        with pytest.raises(SaccadeError, match=r"The loss became nan by step 8 of 12 at .* rate of 0\.05\. Try"):
            go(folder)
    assert kept.keys() == {"last.pt", "best.safetensors"}
    assert snapshot(folder) == kept
    assert load_checkpoint(folder / "last.pt")["step"] == 6
    assert equal(weights(go(folder).network), expected)  # the cause gone, it goes on from there
    rows_once(folder)


def test_weights_that_are_not_numbers_do_not_reach_the_checkpoint(go, tmp_path, monkeypatch):
    """The last step of an epoch broke the weights: its loss was still finite, that of the validation is not."""
    folder, advance, kept = tmp_path / "run", Fit.advance, {}

    def broken(self, *batch):
        if self.step == 7:
            kept.update(snapshot(folder))
        advance(self, *batch)
        if self.step == 8:
            with torch.no_grad():
                for values in (self.network.state_dict(), self.average.values):
                    values["module.classifier.weight"].fill_(math.nan)

    monkeypatch.setattr(Fit, "advance", broken)
    with pytest.raises(SaccadeError, match="The loss became nan by step 8 of 12"):
        go(folder)
    assert snapshot(folder) == kept
    assert load_checkpoint(folder / "last.pt")["step"] == 6


def test_a_disk_that_fills_up_at_any_write(go, expected, tmp_path, monkeypatch):
    """The n-th fsync fails as on a full disk; afterwards there is room again and the run goes on."""
    sync = os.fsync
    for call in (1, 2, 3, 4, 5, 7, 10, 15, 18):
        folder, count = tmp_path / str(call), 0

        def full(descriptor, call=call):
            nonlocal count
            count += 1
            if count == call:
                raise OSError(28, "No space left on device")
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(SaccadeError, match=r"Could not write .*: the disk is full; free some space") as caught:
                go(folder)
        assert "\n" not in str(caught.value)
        if (folder / "last.pt").exists():
            load_checkpoint(folder / "last.pt")
        assert equal(weights(go(folder).network), expected)
        rows_once(folder)
        assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_a_damaged_checkpoint(go, expected, tmp_path, damage):
    def interrupt(row):
        if row["step"] == 10:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(folder, callback=interrupt)
    path = folder / "last.pt"
    path.write_bytes({"cut": path.read_bytes()[:-2000], "garbage": os.urandom(5000), "empty": b""}[damage])
    kept = snapshot(folder)
    with pytest.raises(SaccadeError, match=r"last\.pt is damaged and cannot be read .*Delete it to start the run anew"):
        go(folder)
    assert snapshot(folder) == kept
    path.unlink()  # as the message says
    assert equal(weights(go(folder).network), expected)
    rows_once(folder)


def test_a_checkpoint_of_another_run(go, images, network, plan, recipe, tmp_path):
    def interrupt(row):
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go(folder, callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(folder, callback=interrupt)  # and again before the first checkpoint of this sitting
    go(folder)
    kept = snapshot(folder)
    run = Run(folder, plan.as_dict())
    with pytest.raises(SaccadeError, match=r"does not fit this run \(it is of a run of 12 steps, this one has 9\)"):
        fit(network(), images(48), plan, run=run, precision=FP32)
    with pytest.raises(SaccadeError, match="does not fit this run"):
        fit(network(classes=7), images(64, classes=7), plan, run=run, precision=FP32)
    with pytest.raises(SaccadeError, match=r"another recipe \(lr was 0\.05, now 0\.5\)"):
        Run(folder, {**plan.as_dict(), "lr": 0.5})
    assert snapshot(folder) == kept
    state = load_checkpoint(folder / "last.pt")
    for missing in ("step", "network", "optimisers", "average", "history", "precision", "steps"):
        other = tmp_path / missing
        shutil.copytree(folder, other)
        save_checkpoint(other / "last.pt", {k: v for k, v in state.items() if k != missing})
        with pytest.raises(SaccadeError, match="does not fit this run"):
            go(other)


def test_a_finished_run_is_not_trained_again(go, expected, tmp_path, monkeypatch):
    go(tmp_path / "run")
    monkeypatch.setattr(Fit, "advance", None)
    assert equal(weights(go(tmp_path / "run").network), expected)
    rows_once(tmp_path / "run")


def test_the_files_of_a_run(go, images, tmp_path, network):
    fitted = go(tmp_path / "run")
    best = Network.load(tmp_path / "run" / "best.safetensors")
    final = Network.load(tmp_path / "run" / "final.safetensors")
    assert equal(weights(final), weights(fitted.network))
    assert best.meta["val_accuracy"] == fitted.best
    assert fitted.history[4 // 2 * (best.meta["epoch"] + 1) - 1]["val_accuracy"] == fitted.best
    assert final.meta["recipe"]["name"] == "test"
    assert best.classes == network().classes


def test_too_few_pictures(images, network, recipe):
    with pytest.raises(SaccadeError, match="squares has 10 pictures, fewer than one batch of 16"):
        fit(network(), images(10), recipe(), precision=FP32)
