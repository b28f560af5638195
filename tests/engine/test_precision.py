"""The choice between float32 and bfloat16 follows the clock and the comparison, not the flags."""

import pytest
import torch

from saccade.engine import precision
from saccade.engine.precision import Precision, choose_device, choose_precision
from saccade.errors import SaccadeError

CPU = torch.device("cpu")


def fake_timer(monkeypatch, *, full, half, error=0.0):
    """The timer reports these seconds, and a bfloat16 result that is off by `error` (relative)."""
    result = torch.ones(100)

    def time_convolution(pictures, weight, *, enabled):
        return (half, result * (1 + error)) if enabled else (full, result)

    monkeypatch.setattr(precision, "_time_convolution", time_convolution)


@pytest.mark.parametrize(
    ("full", "half", "error", "name"),
    [
        (1.0, 0.5, 0.004, "bf16"),
        (1.0, 0.8, 0.004, "bf16"),
        (1.0, 0.9, 0.004, "fp32"),  # gains too little
        (1.0, 50.0, 0.004, "fp32"),  # the trap of old processors
        (1.0, 0.5, 0.5, "fp32"),  # fast and wrong
        (1.0, 0.5, float("nan"), "fp32"),
        (1.0, 0.5, float("inf"), "fp32"),
    ],
)
def test_auto_follows_time_and_error(monkeypatch, full, half, error, name):
    fake_timer(monkeypatch, full=full, half=half, error=error)
    chosen = choose_precision(CPU, "auto")
    assert chosen.name == name
    assert "bfloat16" in chosen.reason or "float32" in chosen.reason


def test_what_is_asked_for_is_not_timed(monkeypatch):
    monkeypatch.setattr(precision, "_time_convolution", None)
    assert choose_precision(CPU, "fp32").name == "fp32"
    assert choose_precision(CPU, "bf16") == Precision("bf16", "as asked")
    with pytest.raises(SaccadeError, match=r"auto, fp32 or bf16.*'fp16'"):
        choose_precision(CPU, "fp16")


def test_the_real_timer_measures_and_leaves_no_trace():
    before = torch.get_rng_state()
    chosen = choose_precision(CPU, "auto")
    assert chosen.name in ("fp32", "bf16")
    assert torch.equal(before, torch.get_rng_state())
    pictures, weight = torch.randn(2, 4, 8, 8), torch.randn(4, 4, 3, 3, requires_grad=True)
    seconds, gradient = precision._time_convolution(pictures, weight, enabled=False)
    expected = torch.autograd.grad(torch.conv2d(pictures, weight, padding=1).square().sum(), weight)[0]
    assert 0 < seconds < 5
    torch.testing.assert_close(gradient, expected)


def test_autocast_is_on_for_bf16_only():
    a = torch.randn(4, 4)
    with Precision("bf16", "").autocast(CPU):
        assert (a @ a).dtype == torch.bfloat16
    with Precision("fp32", "").autocast(CPU):
        assert (a @ a).dtype == torch.float32


def test_devices_by_name():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    for wrong in ("gpu!", "cuda:99"):
        with pytest.raises(SaccadeError, match="cannot be used here"):
            choose_device(wrong)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_auto_works_where_gradients_are_off(without):
    with without():
        assert choose_precision(CPU, "auto").name in ("fp32", "bf16")
