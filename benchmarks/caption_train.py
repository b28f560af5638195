"""python benchmarks/caption_train.py

A training step (loss and gradients) of Show, Attend and Tell: this library's beside the usual formulation, which
projects the features of all places at every word and multiplies with the vocabulary once a step (usual_captioning.py).
The same weights, features and sentences (Flickr8k's lengths); the losses and gradients are compared first. Both run in
turn in one process: the median over rounds of the time of each, and of their ratio, with quartiles.

14 x 14 x 2048 is the grid of a ResNet-101, 13 x 13 x 512 that of SqueezeNet 1.0.
"""

import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from common import arguments, machine, prepare, table
from torch import Tensor
from usual_captioning import UsualShowAttendTell

from saccade.caption.decoders import ShowAttendTell
from saccade.caption.objective import Sentences, likelihood_loss
from saccade.caption.text import END, NULL, START
from saccade.engine.seeding import generator

VOCABULARY = 2540
SIZES = {  # side, channels, width of the attention, of the words
    "14x14x2048": (14, 2048, 512, 512),
    "13x13x512": (13, 512, 256, 256),
    "small": (3, 8, 4, 6),  # for the smoke test
}


def decoder_of(size: str) -> ShowAttendTell:
    """An untrained decoder; without dropout, so that both sides compute the same."""
    _, channels, attention, words = SIZES[size]
    torch.manual_seed(0)
    hidden = 512 if size != "small" else 8
    return ShowAttendTell(
        VOCABULARY, channels, wordvec_dim=words, hidden_dim=hidden, attention_dim=attention, dropout=0.0
    )


def sentences_of(count: int) -> Tensor:
    """Random words in sentences as long as Flickr8k's (5 to 20 words with END, 12 on average), padded."""
    g = generator(3, count)
    lengths = (11.8 + 3.8 * torch.randn(count, generator=g)).round().long().clamp(5, 20)
    words = torch.randint(4, VOCABULARY, (count, int(lengths.max()) + 1), generator=g)
    words[:, 0] = START
    place = torch.arange(words.shape[1])
    words[place == lengths[:, None]] = END
    words[place > lengths[:, None]] = NULL
    return words


def compare(size: str, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of each side, in turn."""
    side, channels, *_ = SIZES[size]
    ours = decoder_of(size)
    usual = UsualShowAttendTell(ours)
    features = torch.randn(batch, channels, side, side, generator=generator(4)).relu()
    words = sentences_of(batch)
    lengths = (words != NULL).sum(1) - 1
    given = Sentences(words, torch.arange(batch))

    def own() -> Tensor:
        ours.zero_grad()
        loss = likelihood_loss(ours, ours.remember(features), given)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def theirs() -> Tensor:
        usual.zero_grad()
        loss = usual.loss(features, words, lengths)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    apart = float(abs(own() - theirs()) / theirs())
    pairs = [(ours.place.weight, usual.encoder_att.weight), (ours.embed.weight, usual.embed.weight)]
    gradients = max(float((a.grad - b.grad).norm() / b.grad.norm()) for a, b in pairs)  # type: ignore[operator, union-attr]
    if apart > 1e-6 or gradients > 1e-4:
        raise SystemExit(f"the two do not compute the same: losses {apart:.2g}, gradients {gradients:.2g} apart")
    taken: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(rounds):
        for name, step in (("ours", own), ("usual", theirs)):
            start = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(taken["ours"], taken["usual"], strict=True)]
    apart_by = {"loss_apart": apart, "gradients_apart": gradients}
    return {**apart_by, "speedup": statistics.median(ratios), "ratios": ratios, **taken}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args(argv)
    sizes = ["small"] if options.smoke else ["14x14x2048", "13x13x512"]
    options.rounds = 3 if options.smoke else options.rounds
    results = prepare(options, "caption_train", __doc__)
    for size in sizes:
        settings = {"size": size, "batch": options.batch, "rounds": options.rounds, "vocabulary": VOCABULARY}
        results.measure(f"{size}/{machine()}", settings, partial(compare, size, options.batch, options.rounds))
    rows = []
    for key, cell in results.cells.items():
        size, where = key.split("/", 1)
        values = cell["values"]
        low, middle, high = statistics.quantiles(values["ratios"], n=4)
        own, other = (f"{statistics.median(values[side]):.3f}" for side in ("ours", "usual"))
        ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rows.append([size, cell["settings"]["batch"], own, other, ratio, f"{values['loss_apart']:.0e}", where])
    head = ["features", "batch", "ours, s", "usual, s", "usual time by ours", "losses apart", "machine"]
    results.write_page("Captioning: a training step", table(head, rows))


if __name__ == "__main__":
    main()
