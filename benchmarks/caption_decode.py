"""python benchmarks/caption_decode.py

Beam search of Show, Attend and Tell: all pictures of a batch at once, as this library does it, beside the usual
formulation, picture by picture with the features projected anew at every word (usual_captioning.py). The same weights
and features; the sentences are compared. The weights are random, so a sentence hardly ever ends by itself: all are cut
at 12 words, about the length of captions, and neither side gains by stopping early. Both run in turn in one process;
the median over rounds.
"""

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from caption_train import SIZES, decoder_of
from common import arguments, machine, prepare, table
from usual_captioning import UsualShowAttendTell

from saccade.caption import beam_search
from saccade.caption.text import END
from saccade.engine.seeding import generator

LONGEST = 12


def compare(size: str, pictures: int, beam: int, rounds: int) -> dict[str, Any]:
    """Seconds of each side, in turn, and how many sentences are equal."""
    side, channels, *_ = SIZES[size]
    ours = decoder_of(size).eval()
    with torch.no_grad():
        ours.output.weight.mul_(8)  # some words likelier than others
        ours.output.bias[END] = -4.0
    usual = UsualShowAttendTell(ours)
    features = torch.randn(pictures, channels, side, side, generator=generator(5)).relu() * 2
    taken: dict[str, list[float]] = {"ours": [], "usual": []}
    equal, words = 0, 0
    for turn in range(rounds + 1):
        start = time.perf_counter()
        with torch.no_grad():
            found = beam_search(ours, ours.remember(features), beam=beam, longest=LONGEST)[0]
        middle = time.perf_counter()
        others = [usual.beam(features[i : i + 1], beam=beam, longest=LONGEST) for i in range(pictures)]
        end = time.perf_counter()
        said = [row[:n] for row, n in zip(found.words.tolist(), found.lengths.tolist(), strict=True)]
        equal, words = sum(a == b for a, b in zip(said, others, strict=True)), sum(map(len, said))
        if turn:
            taken["ours"].append(middle - start)
            taken["usual"].append(end - middle)
    ratios = [b / a for a, b in zip(taken["ours"], taken["usual"], strict=True)]
    values = {"equal": equal, "mean_length": words / pictures, "speedup": statistics.median(ratios), "ratios": ratios}
    return values | taken


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    sizes, beams = ["14x14x2048", "13x13x512"], [1, 3, 5]
    if options.smoke:
        sizes, beams, options.rounds, options.pictures = ["small"], [1, 3, 5], 2, 3
    results = prepare(options, "caption_decode", __doc__)
    for size in sizes:
        for beam in beams:
            settings = {"size": size, "pictures": options.pictures, "beam": beam, "rounds": options.rounds}
            work = partial(compare, size, options.pictures, beam, options.rounds)
            results.measure(f"{size}/{beam}/{machine()}", settings, work)
    rows = []
    for key, cell in results.cells.items():
        size, beam_, where = key.split("/", 2)
        values, pictures = cell["values"], cell["settings"]["pictures"]
        own, other = (f"{statistics.median(values[side]):.3f}" for side in ("ours", "usual"))
        low, high = min(values["ratios"]), max(values["ratios"])
        ratio = f"{values['speedup']:.1f} ({low:.1f} to {high:.1f})"
        equal = f"{values['equal']} of {pictures}"
        rows.append([size, beam_, own, other, ratio, equal, f"{values['mean_length']:.1f}", where])
    head = ["features", "beam", "ours, s", "usual, s", "usual time by ours", "equal sentences", "words", "machine"]
    results.write_page("Captioning: beam search of a batch of pictures", table(head, rows))


if __name__ == "__main__":
    main()
