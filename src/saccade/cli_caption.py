"""`saccade caption`: sentences for pictures, and the training and measuring of captioners."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade import console
from saccade.console import Json
from saccade.errors import SaccadeError

CaptionerName = Annotated[
    str, typer.Option("--captioner", "-c", help="One that ships, or a file that `saccade caption train` made.")
]
DEFAULT = "tinynet-flickr8k"


caption = typer.Typer(
    cls=console.PicturesFirst,
    help="Say in a sentence what pictures show, and where it was seen; train what says it.",
    no_args_is_help=True,
)


@caption.command(
    epilog="Examples: `saccade caption cat.jpg --attention looks.png` · "
    "`saccade caption *.jpg -c captioner.safetensors --temperature 0.8 --many 3`"
)
def pictures(
    files: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Files, or names of sample photographs.")],
    captioner: CaptionerName = DEFAULT,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses of the beam search.")] = 5,
    many: Annotated[int, typer.Option(min=1, help="Sentences for each picture.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Draw words instead of searching; 0 is greedy.")] = None,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest words of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    attention: Annotated[
        Path | None, typer.Option(help="Write where it looked for each word: .png (tiles), .gif or .webp (moving).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Caption pictures: sentences with their probabilities."""
    from saccade.caption import Captioner
    from saccade.engine.seeding import generator

    found = Captioner.load(captioner)
    photographs = [console.picture(name) for name in files]
    dice = generator(seed)
    answers = found.caption(photographs, beam=beam, many=many, temperature=temperature, top_p=top_p, generator=dice)
    if attention is not None:
        for name, photograph, row in zip(files, photographs, answers, strict=True):
            path = attention if len(files) == 1 else attention.with_stem(f"{attention.stem}-{Path(name).stem}")
            _draw(photograph, row[0], path)
    if as_json:
        rows = {
            name: [{"caption": str(one), "probability": one.probability} for one in row]
            for name, row in zip(files, answers, strict=True)
        }
        typer.echo(json.dumps(rows))
        return
    for name, row in zip(files, answers, strict=True):
        for place, one in enumerate(row):
            head = f"{name}: " if place == 0 else " " * (len(name) + 2)
            typer.echo(f"{head}{one}  ({one.probability:.2g})")


def _draw(photograph: Any, answer: Any, path: Path) -> None:
    from saccade.caption.draw import attention_tiles, save_animation
    from saccade.pictures import write

    if path.suffix.lower() == ".gif" or path.suffix.lower() == ".webp":
        save_animation(photograph, answer, path)
    else:
        write(attention_tiles(photograph, answer), path)


@caption.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Examples: `saccade caption train photos/` · `saccade caption train flickr8k --recipe course-rnn`",
)
def train(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="flickr8k, coco, scenes, or a folder or archive with captions.")],
    recipe: Annotated[str, typer.Option(help="A recipe of captioners.")] = "attention",
    folder: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/RECIPE-DATA.")] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad pictures and captions, and say so.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="Also write TensorBoard events (extra `log`).")] = False,
    as_json: Json = False,
) -> None:
    """Train a captioner on pictures with captions. Any field of the recipe can be set: `--epochs 5 --decoder lstm`.

    A run that was stopped, or killed, goes on where it was when the same command is given again.
    """
    from saccade.caption import find_caption_recipe, train_captioner

    chosen = find_caption_recipe(recipe).override({"data": data} | console.pairs(context.args))
    name = data if data.isidentifier() else Path(data).resolve().name.split(".")[0]
    folder = folder or Path("runs") / f"{chosen.name}-{name}"
    with console.counting("reading") as progress, console.training() as callback:
        made = train_captioner(
            chosen,
            folder=folder,
            skip_bad=skip_bad,
            say=console.say,
            progress=progress,
            callback=callback,
            tensorboard=tensorboard,
        )
    file = folder / "best.safetensors"
    console.result({"captioner": str(file), "val_cider": made.meta["val_cider"], "epoch": made.meta["epoch"]}, as_json)


@caption.command(epilog="Example: `saccade caption evaluate flickr8k -c runs/attention-flickr8k/best.safetensors`")
def evaluate(
    data: Annotated[str, typer.Argument(help="flickr8k, coco, scenes, or a folder or archive with captions.")],
    captioner: CaptionerName = DEFAULT,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses of the beam search.")] = 5,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad pictures and captions.")] = False,
    java: Annotated[bool, typer.Option("--java", help="Also METEOR and SPICE, by pycocoevalcap and Java.")] = False,
    as_json: Json = False,
) -> None:
    """Score a captioner: BLEU, ROUGE-L and CIDEr-D, beside a constant caption and shuffled pictures."""
    from saccade.caption import Captioner, evaluate_captions, load_captions
    from saccade.caption.java_metrics import java_scores
    from saccade.caption.recipe import CaptionRecipe
    from saccade.caption.text import TOKENISER, tokenise

    found = Captioner.load(captioner)
    if split not in ("train", "val", "test"):
        raise SaccadeError(f"--split got {split!r}; train, val or test is expected.")
    how = CaptionRecipe.from_dict(found.meta["recipe"]) if "recipe" in found.meta else CaptionRecipe("", data)
    with console.counting("reading") as progress:
        pairs = load_captions(data, split=split, size=how.stored, fit=how.fit, skip_bad=skip_bad, progress=progress)
    with console.counting("captioning") as progress:
        report = evaluate_captions(found, pairs, beam=beam, progress=progress)
    head = ["", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    rows = [
        [name, *(f"{100 * value:.1f}" for value in (*scores.bleu, scores.rouge_l, scores.cider))]
        for name, scores in report.rows.items()
    ]
    console.table(head, rows, as_json)
    if java:
        references = [[tokenise(caption) for caption in captions] for captions in pairs.captions]
        for name, score in java_scores([tokenise(said) for said in report.captions], references).items():
            console.say(f"{name} of the captions: {100 * score:.1f}.")
    console.say(f"{len(pairs):,} pictures; words: {TOKENISER}; the constant caption: {report.constant!r}.")
    if report.true is not None:
        console.say(f"{report.true:.1%} of the captions are wholly true of their scenes.")
