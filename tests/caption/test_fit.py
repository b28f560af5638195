"""Training captioners: they learn what the picture shows, resume to the same bits, refuse what cannot be."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from saccade.caption import CiderD, Rules, sample, tokenise
from saccade.caption.captioner import Captioner
from saccade.caption.decoders import DECODERS
from saccade.caption.encoder import Encoder, features_of, to_float
from saccade.caption.evaluate import evaluate_captions, say_all
from saccade.caption.fit import CaptionFit, fit_captioner, make_captioner
from saccade.caption.pairs import load_captions
from saccade.caption.recipe import CaptionRecipe
from saccade.data.scenes import describe
from saccade.engine.run import Run, read_metrics
from saccade.errors import SaccadeError
from saccade.networks import Network, build

SMALL = {
    "rnn": {"wordvec_dim": 32, "hidden_dim": 96},
    "lstm": {"wordvec_dim": 32, "hidden_dim": 96},
    "attention": {"wordvec_dim": 32, "hidden_dim": 96},
    "show-attend-tell": {"wordvec_dim": 32, "hidden_dim": 96, "attention_dim": 32, "dropout": 0.0},
    "transformer": {"dim": 48, "heads": 4, "layers": 2, "dropout": 0.0},
}
BASE = CaptionRecipe("base", "scenes", minimum=1, batch_size=10, captions=1, clip=1.0, warmup=0.1, precision="fp32")


def eye(size=32):
    torch.manual_seed(0)
    keywords = {"num_classes": 4, "widths": (16, 32), "units": (1, 1)}
    network = Network(build("tinynet", **keywords), input_size=size, architecture=("tinynet", keywords))
    return Encoder.of(network.eval(), layer="stage2")


def scenes(count, split="train"):
    """Pictures with one sentence each."""
    data = load_captions("scenes", split=split, size=32, count=count)
    return replace(data, captions=tuple(captions[:1] for captions in data.captions))


@pytest.mark.parametrize("name", DECODERS)
def test_fifty_captions_are_learnt_by_heart_through_the_picture(name):
    data = scenes(50)
    encoder = eye()
    rate = 2e-3 if name == "transformer" else 6e-3
    recipe = replace(BASE, decoder=name, options=SMALL[name], epochs=300, batch_size=50, lr=rate)
    pooled = DECODERS[name](9, 4, **SMALL[name]).wants == "pooled"
    features = features_of(encoder, data, pooled=pooled, keep=False)
    captioner = make_captioner(recipe, data, features, encoder=encoder)
    fit_captioner(captioner, data, recipe, features=features)
    said = say_all(captioner, features[data.rows], beam=1, length_penalty=0, block=0)
    right = sum(
        sentence == " ".join(tokenise(captions[0])) for sentence, captions in zip(said, data.captions, strict=True)
    )
    assert right == 50
    report = evaluate_captions(captioner, data, beam=3, features=features[data.rows])
    assert report.rows["captions"].cider > 8
    assert report.rows["shuffled"].cider < 0.3 * report.rows["captions"].cider
    assert report.rows["constant"].cider < 0.3 * report.rows["captions"].cider
    assert report.true is not None
    assert report.true >= 0.95


def small_run(folder, *, stop_after=None, **changes):
    data, val = scenes(40), scenes(6, "val")
    encoder = eye()
    settings = {"epochs": 4, "reinforce": 1, "scheduled_sampling": 0.3, "doubly_stochastic": 0.1} | changes
    options = SMALL["show-attend-tell"] | {"dropout": 0.3}
    recipe = replace(BASE, decoder="show-attend-tell", options=options, **settings)
    features = None if recipe.fine_tune else features_of(encoder, data, keep=False)
    captioner = make_captioner(recipe, data, features, encoder=encoder)
    rows = []

    def callback(row):
        rows.append(row)
        if stop_after is not None and row["step"] >= stop_after:
            raise KeyboardInterrupt

    run = Run(folder, recipe.as_dict())
    try:
        fit_captioner(
            captioner, data, recipe, features=features, val=val, run=run, callback=callback, log_every=1, save_every=0
        )
    except KeyboardInterrupt:
        return None
    return captioner


@pytest.mark.parametrize(
    "changes", [{}, {"fine_tune": 0.1, "mirror": True, "reinforce": 2}, {"fine_tune": 0.1, "reinforce": 0, "fresh": 2}]
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, changes):
    whole = small_run(tmp_path / "whole", **changes)
    for stop in (3, 4, 9, 14):
        assert small_run(tmp_path / "stopped", stop_after=stop, **changes) is None
    resumed = small_run(tmp_path / "stopped", **changes)
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "stopped")]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    if "fresh" not in changes:
        assert {"reward", "greedy_reward"} <= rows[0][-1].keys()
    best = Captioner.load(tmp_path / "stopped" / "best.safetensors")
    for (key, a), b in zip(best.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_another_runs_checkpoint_is_refused(tmp_path):
    assert small_run(tmp_path, stop_after=2) is None
    with pytest.raises(SaccadeError, match="holds a run of another recipe"):
        small_run(tmp_path, lr=1e-2)


def test_fine_tuning_changes_the_eye_and_freezing_does_not(tmp_path):
    before = eye().network.state_dict()
    for changes, same in (({}, True), ({"fine_tune": 0.1}, False)):
        after = small_run(tmp_path / str(same), **changes).network.state_dict()
        changed = [not torch.equal(before[key], after[key]) for key in before if "num_batches" not in key]
        assert any(changed) is not same


def test_about_half_of_the_pictures_are_shown_mirrored():
    with pytest.raises(SaccadeError, match="mirror needs fine_tune"):
        replace(BASE, mirror=True)
    data, recipe = scenes(20), replace(BASE, fine_tune=0.1, mirror=True, batch_size=10)
    captioner = make_captioner(recipe, data, None, encoder=eye())
    seen = []
    captioner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    state = CaptionFit(captioner, data, None, recipe)
    for _ in range(4):
        state.advance()
    originals = to_float(data.pictures[data.rows])
    straight = [bool((originals == one).flatten(1).all(1).any()) for one in torch.cat(seen)]
    turned = [bool((originals == one.flip(2)).flatten(1).all(1).any()) for one in torch.cat(seen)]
    assert all(a != b for a, b in zip(straight, turned, strict=True))
    assert 8 < sum(turned) < 32


def test_each_of_the_last_epochs_sees_scenes_that_no_other_epoch_sees():
    data = scenes(20)
    recipe = replace(BASE, fine_tune=0.1, batch_size=10, epochs=5, fresh=3, fresh_lr=2e-4, schedule="linear")
    captioner = make_captioner(recipe, data, None, encoder=eye())
    seen, rates = [], []
    captioner.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    state = CaptionFit(captioner, data, None, recipe)
    while state.step < state.steps:
        rates.append(state.rate() * recipe.lr)
        state.advance()
    # one schedule over the two epochs of 2 steps on `data`, and one, from fresh_lr, over the three of fresh scenes
    expected = [recipe.lr * (1 - step / 4) for step in range(4)] + [2e-4 * (1 - step / 6) for step in range(6)]
    assert rates == pytest.approx(expected)
    epochs = [{one.numpy().tobytes() for one in torch.cat(seen[step : step + 2])} for step in range(0, 10, 2)]
    given = {one.numpy().tobytes() for one in to_float(data.pictures[data.rows])}
    assert epochs[0] == epochs[1] == given
    assert all(len(epoch) == 20 for epoch in epochs)
    assert len(set().union(*epochs)) == 20 * 4
    # of a fresh scene there is one sentence, the most complete
    assert state.train.captions == tuple((describe(one),) for one in state.train.scenes)
    encode = captioner.vocabulary.encode
    assert state.encoded == [
        [encode(text, longest=recipe.longest - 1) for text in texts] for texts in state.train.captions
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fine_tune": 0.0}, "fresh needs data scenes and fine_tune"),
        ({"data": "flickr8k"}, "fresh needs data scenes and fine_tune"),
        ({"reinforce": 1}, "fresh and reinforce cannot go together"),
        ({"fresh": 11}, "fresh must be from 0 to epochs"),
        ({"fresh_lr": 0.0}, "fresh_lr and reinforce_lr must be above zero"),
    ],
)
def test_fresh_scenes_where_there_can_be_none_are_refused(changes, message):
    with pytest.raises(SaccadeError, match=message):
        replace(BASE, **({"fine_tune": 0.1, "fresh": 1} | changes))


def test_a_loss_that_is_not_finite_stops_the_run_in_one_sentence():
    data = scenes(20)
    features = features_of(eye(), data, keep=False)
    captioner = make_captioner(BASE, data, features, encoder=eye())
    with pytest.raises(SaccadeError, match="Training diverged: the loss at step 0 is nan"):
        fit_captioner(captioner, data, BASE, features=features * torch.nan)


def test_too_few_pictures_are_refused():
    data = scenes(5)
    captioner = make_captioner(BASE, data, features_of(eye(), data, keep=False), encoder=eye())
    with pytest.raises(SaccadeError, match="5 training pictures, fewer than one batch of 10"):
        fit_captioner(captioner, data, BASE)


def test_self_critical_training_raises_the_reward_it_expects():
    data = scenes(60)
    encoder = eye()
    features = features_of(encoder, data, pooled=True, keep=False)
    settings = {"epochs": 120, "reinforce": 60, "batch_size": 60, "lr": 6e-3, "reinforce_lr": 5e-4}
    recipe = replace(BASE, decoder="rnn", options=SMALL["rnn"], **settings)
    captioner = make_captioner(recipe, data, features, encoder=encoder)
    history = fit_captioner(captioner, data, recipe, features=features, log_every=10)
    rewards = [row["reward"] for row in history if "reward" in row]
    reached = sum(rewards[-10:]) / 10
    assert reached > sum(rewards[:10]) / 10 + 0.2
    # what is maximised is the score of sentences drawn from it, as the public functions draw and score them
    judge = CiderD([[tokenise(c) for c in captions] for captions in data.captions])
    with torch.no_grad():
        memory = captioner.remember(features[data.rows])
        draws = sample(
            captioner.decoder, memory, many=20, rules=Rules(unknown=True), generator=torch.Generator().manual_seed(0)
        )
    scores = [judge.score([captioner.vocabulary.decode(w).split() for w in draw.words.tolist()]) for draw in draws]
    assert sum(scores) / 20 == pytest.approx(reached, abs=0.15)


def test_features_are_computed_once_and_a_stopped_computation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path))
    data, encoder = scenes(1100), eye()
    expected = features_of(encoder, data, keep=False)
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) == 33:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features_of(encoder, data, progress=stop)
    [folder] = (tmp_path / "features").iterdir()
    assert json.loads((folder / "done.json").read_text())["done"] == 1024
    calls.clear()
    assert torch.equal(features_of(encoder, data, progress=lambda done, total: calls.append(done)), expected)
    assert calls == [1056, 1088, 1100]
    calls.clear()
    assert torch.equal(features_of(encoder, data, progress=lambda done, total: calls.append(done)), expected)
    assert calls == []
    assert_close(features_of(encoder, data, pooled=True).float(), expected.float().mean((2, 3)), rtol=2e-3, atol=2e-3)


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_fit import small_run
captioner = small_run({folder!r})
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    whole = small_run(tmp_path / "whole")
    program = KILLED.format(tests=os.path.dirname(__file__), folder=str(tmp_path / "killed"))
    for wait in (6, 8, 10, 12):
        process = subprocess.Popen([sys.executable, "-c", program])
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    resumed = small_run(tmp_path / "killed")
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
