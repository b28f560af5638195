"""Two processes under torchrun do what one does, with equal batch statistics and averaged gradients."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from saccade.engine.distributed import World, joined, share_batch_norm, unshare_batch_norm
from saccade.engine.run import read_metrics
from saccade.train.evaluate import evaluate
from saccade.train.fit import fit

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="PyTorch was built without gloo")

SCRIPT = Path(__file__).with_name("two_processes.py")
spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
assert spec is not None
assert spec.loader is not None
two = importlib.util.module_from_spec(spec)
spec.loader.exec_module(two)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes found (see two_processes.py), and the folder of their runs."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder)],
        capture_output=True, text=True, timeout=600, env={**environment, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)], folder


def test_who_is_who(ranks):
    assert [(found["rank"], found["size"]) for found in ranks[0]] == [(0, 2), (1, 2)]


@pytest.mark.parametrize("name", two.NORMS)
def test_shared_batch_norm_is_batch_norm_on_the_whole_batch(ranks, name):
    norm, x, weights = two.make_norm(**two.NORMS[name])
    expected = two.run_norm(norm, x, weights)
    parts = [found[f"norm {name}"] for found in ranks[0]]
    close = {"rtol": 1e-4, "atol": 1e-4} if name != "half" else {"rtol": 0.02, "atol": 0.05}
    if name == "half":  # the reference in float32, on the same rounded pictures
        reference = two.run_norm(two.make_norm()[0], x.float(), weights)
        assert {part["y"].dtype for part in parts} == {torch.bfloat16}
        assert {part["x"].dtype for part in parts} == {torch.bfloat16}
        expected = {**reference, "y": reference["y"].bfloat16(), "x": reference["x"].bfloat16()}
        scale = reference["x"].abs().amax((0, 2, 3), keepdim=True)
        found = torch.cat([part["x"] for part in parts]).float() / scale
        torch.testing.assert_close(found, reference["x"] / scale, **close)
    else:
        torch.testing.assert_close(torch.cat([part["x"] for part in parts]), expected["x"], **close)
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), expected["y"], **close)
    for i, gradient in enumerate(expected["parameters"]):  # of a loss that is summed: shares add up
        total = sum(part["parameters"][i] for part in parts)
        torch.testing.assert_close(total, gradient, **({"rtol": 1e-4, "atol": 2e-3} if name != "half" else close))
    for part in parts:
        assert part["state"].keys() == expected["state"].keys()
        for key, value in expected["state"].items():
            torch.testing.assert_close(part["state"][key], value, rtol=1e-5, atol=1e-5)


def test_sums_and_means(ranks):
    for found in ranks[0]:
        assert found["gradient"].tolist() == [1.5, 3.0]
        assert found["no gradient"] is None
        assert found["sum"].tolist() == [2.0, 1.0]
        assert found["holds"] == [True, False, False]


def test_all_start_from_the_weights_of_the_first(ranks):
    expected = two.make_network(seed=0).state_dict()
    for found in ranks[0]:
        assert all(torch.equal(found["spread"][key], value) for key, value in expected.items())


def test_evaluation_is_that_of_one_process(ranks):
    """Also of an odd number of pictures, and of fewer pictures than processes."""
    _, val = two.make_data()
    for i, part in enumerate((val, val.subset([3]))):
        expected = evaluate(two.make_network(), part)
        for found in ranks[0]:
            assert found["evaluate"][i] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", two.RECIPES)
def test_two_processes_train_as_one_does(ranks, name, tmp_path):
    """Same global batches, a network with batch norm: weights within 1e-5 after six steps, measurements too."""
    train, val = two.make_data()
    alone = fit(two.make_network(), train, two.RECIPES[name], val=val, precision=two.FP32, log_every=2)
    start = two.make_network().state_dict()
    moved = max(float((alone.network.state_dict()[k].double() - v).abs().max()) for k, v in start.items())
    assert moved > 0.01  # there was something to agree on
    for weights, history, shared in (found[name] for found in ranks[0]):
        for key, value in alone.network.state_dict().items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-5)
        assert len(history) == len(alone.history)
        for ours, theirs in zip(alone.history, history, strict=True):
            assert {k: v for k, v in theirs.items() if k != "seconds"} == pytest.approx(
                {k: v for k, v in ours.items() if k != "seconds"}, abs=1e-4
            )
        assert not shared  # what comes back works in one process
    written = read_metrics(ranks[1] / name / "metrics.jsonl")  # by the first process, once
    assert [row["step"] for row in written] == [row["step"] for row in alone.history]


def test_all_processes_have_the_same_bits(ranks):
    first, second = ranks[0]
    for name in two.RECIPES:
        assert all(torch.equal(value, second[name][0][key]) for key, value in first[name][0].items())


def test_an_interrupted_run_of_two_goes_on_bit_for_bit(ranks):
    for found in ranks[0]:
        assert all(torch.equal(value, found["again"][key]) for key, value in found["sgd"][0].items())


def test_processes_that_time_bfloat16_differently_agree_on_float32(ranks):
    assert [found["precision"] for found in ranks[0]] == ["fp32", "fp32"]


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as world:
        assert world == World(0, 1, torch.device("cpu"))
        assert world.first
    assert not dist.is_initialized()


def test_sharing_and_unsharing_leaves_the_layers_as_they_were():
    class Own(nn.BatchNorm2d):
        """Somebody's own batch norm is not touched."""

    module = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(4)), Own(3), nn.BatchNorm1d(3))
    kinds = [type(layer) for layer in module.modules()]
    share_batch_norm(module)
    x = torch.rand(2, 3, 4, 4)
    module.eval()
    torch.testing.assert_close(module[0](x), nn.BatchNorm2d(3).eval()(x))  # in evaluation no process is asked
    unshare_batch_norm(module)
    assert [type(layer) for layer in module.modules()] == kinds
