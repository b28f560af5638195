"""python benchmarks/captioning.py --entries squeezenet,course-rnn,course-lstm,course-attention --seeds 3

What captioners of this library reach on Flickr8k: Show, Attend and Tell and the course's three decoders on features of
a frozen SqueezeNet 1.0 (the layer features.12; for the course's attention at 112 pixels, 6 x 6 places, near the
course's own grid), and on those of `tinynet`. The course's three are trained for 20 of its 60 epochs. The epoch is
chosen by CIDEr-D of greedy captions of the validation pictures, of scenes by the share that is wholly true; the test
pictures are captioned once, by beam search. Every row stands beside a constant caption (the best common one of the
training captions) and beside the same captions given to other pictures.

And on generated scenes (entry `scenes`): the share of captions that are wholly true, and the share of attention inside
the mask of the object that a word names, beside the share that a uniform attention and one on the centre would have.

Long runs save themselves under `runs/` after each epoch and go on from there.
"""

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import Results, arguments, mean_spread, prepare, table

from saccade.caption import (
    Captioner,
    CaptionRecipe,
    evaluate_captions,
    features_of,
    find_caption_recipe,
    load_captions,
    train_captioner,
)
from saccade.caption.grounding import measure_grounding
from saccade.caption.pairs import CaptionSet
from saccade.data import holds

_SQUEEZENET = {"network": "squeezenet1_0", "layer": "features.12", "size": 224}
_ENTRIES = {
    "squeezenet": replace(find_caption_recipe("attention"), **_SQUEEZENET),
    "course-rnn": replace(find_caption_recipe("course-rnn"), epochs=20, **_SQUEEZENET),
    "course-lstm": replace(find_caption_recipe("course-lstm"), epochs=20, **_SQUEEZENET),
    "course-attention": replace(find_caption_recipe("course-attention"), epochs=20, **_SQUEEZENET | {"size": 112}),
    "tinynet": find_caption_recipe("tinynet-flickr8k"),
    "scenes": find_caption_recipe("scenes"),
}
KEYS = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D")


def recipe_of(entry: str, seed: int, options: Namespace) -> CaptionRecipe:
    """The recipe of an entry; for the smoke test all small and on scenes."""
    recipe = replace(_ENTRIES[entry], seed=seed)
    if not options.smoke:
        return recipe
    small = {"dim": 16} if recipe.decoder == "transformer" else {"wordvec_dim": 8, "hidden_dim": 16}
    return replace(
        recipe, data="scenes", network="tinynet", layer="stage2.unit1", size=32, stored=32, count=40, val=8, epochs=2,
        reinforce=0, batch_size=16, options=small, minimum=1,
    )  # fmt: skip


def run(recipe: CaptionRecipe, folder: Path, count: int | None) -> dict[str, Any]:
    """Train, and measure on the test pictures."""
    train_captioner(recipe, folder=folder)
    captioner = Captioner.load(folder / "best.safetensors")
    test = load_captions(recipe.data, split="test", size=recipe.stored, fit=recipe.fit, count=count)
    pooled = captioner.decoder.wants == "pooled"
    features = features_of(captioner.encoder, test, pooled=pooled, keep=not test.scenes)[test.rows]
    start = time.perf_counter()
    beam = evaluate_captions(captioner, test, features=features)
    seconds = time.perf_counter() - start
    greedy = evaluate_captions(captioner, test, beam=1, length_penalty=0.0, block=0, features=features)
    values: dict[str, Any] = {
        "val_cider": captioner.meta["val_cider"],
        "best_epoch": captioner.meta["epoch"] + 1,
        "training_seconds": captioner.meta["seconds"],
        "test_pictures": len(test),
        "seconds_beam": seconds,
        "constant_said": beam.constant,
        "rows": {name: _figures(scores) for name, scores in beam.rows.items()}
        | {"greedy": _figures(greedy.rows["captions"])},
        "first_captions": list(beam.captions[:8]),
    }
    if beam.true is not None:
        constant = sum(holds(beam.constant, scene) for scene in test.scenes) / len(test)
        words = sum(len(caption.split()) for caption in beam.captions) / len(test)
        values |= {"true": beam.true, "true_greedy": greedy.true, "true_constant": constant, "mean_words": words}
        values |= _grounding(captioner, test)
    return values


def _figures(scores: Any) -> dict[str, float]:
    return dict(zip(KEYS, (scores.bleu[0], scores.bleu[3], scores.rouge_l, scores.cider), strict=True))


def _grounding(captioner: Captioner, test: CaptionSet) -> dict[str, float]:
    if captioner.decoder.wants == "pooled":
        return {}
    pictures = [test.pictures[row].permute(2, 0, 1).float() / 255 for row in test.rows]
    found = measure_grounding(captioner, pictures, test.scenes)
    return {} if found is None else {f"grounding_{key}": value for key, value in asdict(found).items()}


def report(results: Results) -> None:
    """The tables."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, cell in results.cells.items():
        groups.setdefault(key.split("/")[0], []).append(cell["values"])
    lines, scenes = [], []
    for entry, runs in groups.items():
        for row in ("captions", "greedy", "shuffled", "constant"):
            what = {
                "captions": "beam 5",
                "greedy": "greedy",
                "shuffled": "beam 5, other pictures",
                "constant": "constant",
            }
            figures = [mean_spread([r["rows"][row][key] for r in runs], scale=100, digits=1) for key in KEYS]
            lines.append([entry, what[row], *figures])
        for r in runs:
            if "true" in r:
                told = [f"{r[key]:.1%}" for key in ("true", "true_greedy", "true_constant")]
                told.append(f"{r['mean_words']:.1f}")
                shares = [
                    f"{r[f'grounding_{key}']:.1%}" if "grounding_words" in r else "-"
                    for key in ("attention", "uniform", "centre")
                ]
                scenes.append([entry, *told, *shares])
    body = [
        table(["captioner", "captions", *KEYS], lines),
        "",
        "All figures times 100; mean and deviation over seeds.",
        "",
    ]
    about = []
    for entry, runs in groups.items():
        about.append(
            [
                entry,
                mean_spread([r["val_cider"] for r in runs], scale=100, digits=1),
                ", ".join(str(r["best_epoch"]) for r in runs),
                mean_spread([r["training_seconds"] / 60 for r in runs], digits=0),
                mean_spread([r["seconds_beam"] for r in runs], digits=0),
            ]
        )
    head = [
        "captioner",
        "CIDEr-D of greedy captions, validation",
        "epoch kept",
        "training, min",
        "beam 5 of the test pictures and scoring, s",
    ]
    body += [table(head, about), ""]
    if scenes:
        head = ["captioner", "wholly true, beam 5", "greedy", "constant", "words of a caption"]
        head += ["attention in the mask of the named object", "uniform attention", "attention on the centre"]
        body += ["Generated scenes:", "", table(head, scenes), ""]
    body += ["## The first captions of the test pictures", ""]
    for entry, runs in groups.items():
        body += [f"- {entry}: " + " · ".join(runs[0]["first_captions"])]
    results.write_page("Captioning", "\n".join(body))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and write the page."""
    parser = arguments(__doc__)
    parser.add_argument("--entries", default=",".join(_ENTRIES), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(argv)
    if options.smoke:
        options.entries, options.seeds = "squeezenet,course-lstm", 1
        torch.set_num_threads(1)
    results = prepare(options, "captioning", __doc__)
    for seed in range(options.seeds):
        for entry in options.entries.split(","):
            recipe = recipe_of(entry, seed, options)
            folder = results.folder / "runs" / "benchmarks" / "captioning" / f"{entry}-{seed}"
            count = 16 if options.smoke else None
            results.measure(f"{entry}/seed {seed}", recipe.as_dict(), partial(run, recipe, folder, count))
            report(results)


if __name__ == "__main__":
    main()
