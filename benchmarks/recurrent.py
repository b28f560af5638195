"""python benchmarks/recurrent.py

A training step (forward and backward) of this library's recurrent layers beside PyTorch's own `nn.RNN` and `nn.LSTM`,
with the same weights, inputs and upstream gradients, first checked to give the same states and gradients.

- the course's size (N 250, T 16, D 256, H 512) and a usual one (N 32, T 20, D and H 512), all sequences of full length;
- the first with the lengths of captions (8 to 16 steps, two thirds of the places), ours told the lengths, PyTorch's
  given a packed sequence, which has to be packed and padded again around it.

The two run in turn in one process; the median over rounds of the time of each, and of their ratio, with quartiles.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import arguments, machine, prepare, table
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from saccade.engine.seeding import generator
from saccade.recurrent import LSTM, RNN, to_torch

SIZES = {"course": (250, 16, 256, 512), "usual": (32, 20, 512, 512)}
Step = Callable[[], list[Tensor]]


def steps(kind: type[RNN] | type[LSTM], size: tuple[int, int, int, int], *, ragged: bool) -> tuple[Step, Step]:
    """Our step and PyTorch's: each gives the states and the gradients of input, first state and weights."""
    n, t, d, h = size
    torch.manual_seed(0)
    ours = kind(d, h)
    theirs = to_torch(ours)
    g = generator(n, t)
    x = torch.randn(n, t, d, generator=g).requires_grad_()
    h0 = torch.randn(n, h, generator=g).requires_grad_()
    upstream = torch.randn(n, t, h, generator=g)
    lengths = torch.randint(t // 2, t + 1, (n,), generator=g) if ragged else torch.full((n,), t)
    upstream = upstream * (torch.arange(t) < lengths[:, None])[..., None]

    def own() -> list[Tensor]:
        result = ours(x, h0, lengths=lengths if ragged else None)
        states = result if isinstance(result, Tensor) else result[0]
        return [states, *torch.autograd.grad(states, [x, h0, ours.wx, ours.wh, ours.b], upstream)]

    def pytorchs() -> list[Tensor]:
        state = h0[None] if kind is RNN else (h0[None], torch.zeros_like(h0)[None])
        weights = [theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0]
        if ragged:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states = pad_packed_sequence(theirs(packed, state)[0], batch_first=True, total_length=t)[0]
        else:
            states = theirs(x, state)[0]
        return [states, *torch.autograd.grad(states, [x, h0, *weights], upstream)]

    return own, pytorchs


def check(own: Step, pytorchs: Step, *, gates: int) -> float:
    """Largest difference between the two, by the size of what is compared; the gates' order is brought together."""
    worst = 0.0
    for place, (a, b) in enumerate(zip(own(), pytorchs(), strict=True)):
        if place >= 3:  # weights: rows by gate
            parts = b.chunk(gates)
            b = torch.cat([parts[0], parts[1], parts[3], parts[2]]) if gates == 4 else b
            b = b.T if b.ndim == 2 else b
        worst = max(worst, float((a - b).detach().abs().max() / b.detach().abs().max()))
    if worst > 1e-4:
        raise SystemExit(f"the two do not compute the same: {worst:.2g}")
    return worst


def compare(kind: type[RNN] | type[LSTM], size: tuple[int, int, int, int], ragged: bool, rounds: int) -> dict[str, Any]:
    """Seconds of each, in turn."""
    own, pytorchs = steps(kind, size, ragged=ragged)
    difference = check(own, pytorchs, gates=4 if kind is LSTM else 1)
    taken: dict[str, list[float]] = {"ours": [], "pytorch": []}
    for round_ in range(rounds + 2):
        for name, step in (("ours", own), ("pytorch", pytorchs)):
            start = time.perf_counter()
            step()
            if round_ >= 2:
                taken[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(taken["ours"], taken["pytorch"], strict=True)]
    return {"difference": difference, "speedup": statistics.median(ratios), "ratios": ratios, **taken}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args(argv)
    sizes = {"course": (5, 4, 3, 6)} if options.smoke else SIZES
    options.rounds = 3 if options.smoke else options.rounds
    results = prepare(options, "recurrent", __doc__)
    for kind in (RNN, LSTM):
        for name, size in sizes.items():
            for ragged in (False, True) if name == "course" else (False,):
                key = f"{kind.__name__}/{name}/{'captions' if ragged else 'full'}/{machine()}"
                settings = {"n, t, d, h": size, "rounds": options.rounds}
                results.measure(key, settings, partial(compare, kind, size, ragged, options.rounds))
    rows = []
    for key, cell in results.cells.items():
        kind_, name, lengths, where = key.split("/", 3)
        values = cell["values"]
        low, middle, high = statistics.quantiles(values["ratios"], n=4)
        own, other = (statistics.median(values[side]) * 1e3 for side in ("ours", "pytorch"))
        n, t, d, h = cell["settings"]["n, t, d, h"]
        what = f"{n} x {t}, {d} to {h}"
        ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rows.append([kind_, what, lengths, f"{own:.1f}", f"{other:.1f}", ratio, f"{values['difference']:.0e}", where])
    head = [
        "layer",
        "N x T, D to H",
        "lengths",
        "ours, ms",
        "PyTorch, ms",
        "PyTorch's time by ours",
        "difference",
        "machine",
    ]
    results.write_page("Recurrent layers: a training step", table(head, rows))


if __name__ == "__main__":
    main()
