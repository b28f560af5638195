"""Put the captioner of a finished run into the package: weights in half precision, card, log.

    python benchmarks/ship_captioner.py runs/benchmarks/captioning/tinynet-0 --name tinynet-flickr8k

The figures in the card are measured here, on the file that ships (its weights are rounded to 16 bits).
"""

import argparse
import json
import shutil
from datetime import date
from pathlib import Path

from common import machine, table

from saccade.caption import Captioner, CaptionRecipe, evaluate_captions, load_captions
from saccade.caption.captioner import SHIPPED
from saccade.caption.text import TOKENISER
from saccade.engine.files import write_text
from saccade.engine.memory import keep_freed_memory

LICENCE = {
    "flickr8k": "weights MIT; trained on the captions and photographs of Flickr8k (Hodosh, Young, Hockenmaier 2013), "
    "which are for research and teaching"
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    keep_freed_memory()
    told = json.loads((arguments.run / "recipe.json").read_text("utf-8"))
    captioner = Captioner.load(arguments.run / "best.safetensors")
    recipe = CaptionRecipe.from_dict(captioner.meta["recipe"])
    captioner.meta["licence"] = LICENCE.get(recipe.data, "MIT")
    target = SHIPPED / f"{arguments.name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    captioner.save(target, half=True)
    captioner = Captioner.load(target)
    test = load_captions(recipe.data, split="test", size=recipe.stored, fit=recipe.fit)
    report = evaluate_captions(captioner, test)
    heads = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    scores = {name: (*row.bleu, row.rouge_l, row.cider) for name, row in report.rows.items()}
    captioner.save(
        target,
        half=True,
        meta={"metrics": {"test": {name: dict(zip(heads, row, strict=True)) for name, row in scores.items()}}},
    )
    shutil.copy(arguments.run / "metrics.jsonl", SHIPPED / f"{arguments.name}.metrics.jsonl")
    decoder = sum(p.numel() for p in captioner.decoder.parameters())
    rows = [[name, *(f"{100 * value:.1f}" for value in row)] for name, row in scores.items()]
    how = recipe.as_dict()
    lines = [
        f"# {arguments.name}",
        "",
        "Says in an English sentence what a photograph shows, and where it looked for each word.",
        "",
        "| | |",
        "|---|---|",
        f"| encoder | {captioner.network.name}, layer {captioner.layer}, pictures squashed to {captioner.size} x "
        f"{captioner.size}, a grid of {' x '.join(map(str, captioner.grid))} |",
        f"| decoder | {captioner.architecture[0]}, {decoder:,} parameters, {len(captioner.vocabulary):,} words |",
        f"| trained on | {recipe.data}, {recipe.epochs} epochs, seed {recipe.seed}; the epoch was chosen by CIDEr-D of "
        f"greedy captions of the validation pictures ({100 * captioner.meta['val_cider']:.1f}) |",
        f"| test pictures | {len(test):,}, not used to choose the epoch; n = 1 run |",
        f"| training time | {captioner.meta['seconds'] / 60:.0f} minutes on the wall clock, beside other work |",
        f"| machine | {machine()}; trained with PyTorch {told['versions']['torch']} |",
        f"| licence | {captioner.meta['licence']} |",
        f"| made | `saccade caption train {recipe.data} --recipe {recipe.name}`; shipped {date.today()} by "
        "`python benchmarks/ship_captioner.py` |",
        "",
        f"Test pictures, beam 5, figures times 100; words: {TOKENISER}. The constant caption: “{report.constant}”. "
        "Shuffled: the same captions given to other pictures.",
        "",
        table(["captions", *heads], rows),
        "",
        "The first captions of the test pictures: " + " · ".join(report.captions[:6]) + ".",
        "",
        "It knows photographs of people and dogs out of doors, and calls everything else by their names. What it is "
        "not for: deciding anything about people, or describing pictures to somebody who has to rely on it.",
        "",
        "## Recipe",
        "",
        "```json",
        json.dumps(how, indent=1),
        "```",
        "",
    ]
    write_text(SHIPPED / f"{arguments.name}.md", "\n".join(lines))
    print(json.dumps({"file": str(target), "megabytes": target.stat().st_size / 1e6, "test": scores}))


if __name__ == "__main__":
    main()
