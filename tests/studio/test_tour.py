"""The tour: its page stands alone and is whole, and an earlier one survives whatever stops a new one."""

import base64
import importlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from saccade.caption import Captioner
from saccade.errors import SaccadeError
from saccade.pictures import encode, read
from saccade.studio import answers, attacked, grown, residual, styled, tour, words
from saccade.studio.eye import PHOTOGRAPHS
from saccade.studio.page import per_cent
from saccade.style.fast.network import shipped_styles
from saccade.train import Recipe

VOID = {"meta", "img", "br", "hr", "link", "input"}
FIGURES = (
    "accuracy", "loss", "predictions", "saliency", "methods", "class_pictures", "dream", "inversion", "scenes",
    "scene_captions", "styled", "attacked",
    *(f"caption_{photograph.sample}" for photograph in PHOTOGRAPHS),
)  # fmt: skip


class Reader(HTMLParser):
    """Collects a page's elements and text; fails on a tag that is not closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))  # <path .../>: closes itself

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(made: Any) -> str:
    return str(made.page.read_text("utf-8"))


@pytest.fixture(scope="module")
def reader(html: str) -> Reader:
    return Reader(html)


def test_the_page_is_whole(html: str, reader: Reader) -> None:
    assert html.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in reader.elements].count("h1") == 1
    assert len(reader.all("section")) == 6
    assert reader.all("html")[0]["lang"] == "en"
    ids = [str(a["id"]) for _, a in reader.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    for link in reader.all("a"):
        assert str(link["href"]).removeprefix("#") in ids
    for part in reader.all("section"):
        assert part["aria-labelledby"] in ids


def test_the_page_needs_no_other_file(html: str, reader: Reader) -> None:
    for tag, attributes in reader.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name in ("src", "href", "srcset", "poster", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, value[:60])
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_picture_decodes_and_is_described(reader: Reader, spoken: words.Spoken) -> None:
    pictures = reader.all("img")
    # six photographs: half and half, with an inset, and with two maps; two plots; the scenes; captions of the
    # photographs, of scenes, and one of these word by word; methods; two classes for both, a dream and what it was
    # before, inversions; the words that are explained
    heard = sum(bool(caption.words) for caption in [*spoken.captions, spoken.said[0]])
    asked = len(answers.ASKED) + 2 * 2 + 2 + grown.DEPTHS - 1 + len(spoken.reasons) * len(words.REASONS)
    painted = 2 + 2 + min(styled.FAST, len(shipped_styles()))  # content and style, by both networks, in one pass
    fooled = 2 * 3 * len(attacked.SHOWN_UNDER_ATTACK)  # the attacked picture and two maps, for both networks
    assert len(pictures) == 6 + 6 * 2 + 6 * 3 + 2 + residual.SHOWN + words.SHOWN + heard + asked + painted + fooled
    for attributes in pictures:
        kind, _, data = str(attributes["src"]).partition(";base64,")
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        image.load()
        assert kind == f"data:image/{str(image.format).lower()}"
        shape = int(str(attributes["width"])) / int(str(attributes["height"]))
        assert shape == pytest.approx(image.width / image.height, rel=0.01)
        decorative = "inset" in (attributes.get("class") or "")
        assert bool(attributes["alt"]) != decorative
    for drawing in reader.all("svg"):
        assert drawing["aria-label"]


def test_names_are_shown_as_they_are(html: str, reader: Reader) -> None:
    assert "twin <2>" in reader.text
    assert "none & untrained" in reader.text
    assert '<b>"bold"' not in html
    assert "A word that fits: tabby, tabby cat" in reader.text
    assert "A word that fits: espresso" in reader.text


def test_the_colophon_says_how_the_page_was_made(reader: Reader) -> None:
    for fact in (torch.__version__, "scikit-image", "trained under attack (linf, eps 0.0118)", "25.0 %", '"lr": 0.05'):
        assert fact in reader.text
    for name in FIGURES:
        assert f"{name}.png" in reader.text


def test_says_what_it_does(made: Any) -> None:
    assert len(made.said) == 10
    assert made.said[0] == "Looked at 6 photographs with eye and twin <2>."
    assert made.said[1] == "Growing pictures of 2 classes for eye and twin <2>."
    assert made.said[2] == "Repainting Chelsea in another style with eye and twin <2>."
    assert made.said[3] == "Training plain32 on 64 generated scenes, 2 times over."
    assert made.said[7] == "Training a captioner on 32 generated scenes, 2 times over."
    assert str(made.page) in made.said[-1]


@pytest.fixture(scope="module")
def pair(made: Any) -> residual.Pair:
    """The networks of the page, trained a second time."""
    before = torch.get_rng_state()
    pair = residual.train_pair(made.recipe)
    assert torch.equal(torch.get_rng_state(), before)
    return pair


@pytest.fixture(scope="module")
def spoken(made: Any) -> words.Spoken:
    """What the captioners say, a second time."""
    return words.speak(Captioner.load(made.captioner), made.speaker)


def test_captions_are_shown_as_they_were_said(reader: Reader, spoken: words.Spoken) -> None:
    assert all(f"“{caption}”" in reader.text for caption in spoken.captions)
    assert all(str(caption) in reader.text for caption in spoken.said)
    assert f"{per_cent(spoken.true)} are wholly true" in reader.text
    assert "none <3>" in reader.text
    assert 0 <= spoken.constant < 0.2


def test_without_a_captioner_the_page_says_how_to_make_one(spoken: words.Spoken) -> None:
    html = words.words_section(replace(spoken, captioner=None, captions=[]))
    assert "saccade caption train" in html
    assert Reader(html).text.count("“") == 0


def test_a_second_run_gives_the_same_networks_and_figures(
    made: Any, reader: Reader, pair: residual.Pair, spoken: words.Spoken
) -> None:
    for name, picture in (residual.figures(pair) | words.figures(spoken)).items():
        assert (made.page.parent / f"{name}.png").read_bytes() == encode(picture), name
    for name in ("plain32", "resnet32"):
        accuracy = per_cent(pair.accuracies(name)[-1])
        assert f"network names {accuracy}" in reader.text or f"the residual network {accuracy}" in reader.text


def test_the_figures_lie_beside_the_page(made: Any) -> None:
    files = sorted(path.name for path in made.page.parent.iterdir())
    assert files == sorted(["index.html", *(f"{name}.png" for name in FIGURES)])
    for name in FIGURES:
        assert read(made.page.parent / f"{name}.png").shape[2] > (200 if "caption" in name or name == "dream" else 500)


def test_one_network_is_enough_and_the_page_names_the_missing_one(
    tmp_path: Path, networks: list[Path], monkeypatch: pytest.MonkeyPatch, pair: residual.Pair, spoken: words.Spoken
) -> None:
    monkeypatch.setattr(residual, "train_pair", lambda *_, **__: pair)
    monkeypatch.setattr(words, "speak", lambda *_, **__: replace(spoken, captioner=None, captions=[]))
    said: list[str] = []
    text = Reader(
        tour(tmp_path, networks=(networks[0], "no-such-network"), grow_steps=2, say=said.append).read_text("utf-8")
    ).text
    assert said[0].startswith("no-such-network was left out. There is no network 'no-such-network'")
    assert "no-such-network was left out" in text
    assert "It knows 4 words" in text
    assert "twin" not in text


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "where", ["residual.train_pair", "words.figures", "eye.figures", "tour.page", "tour.write_text"]
)
def test_an_earlier_page_survives_a_tour_that_is_stopped(
    where: str,
    tmp_path: Path,
    networks: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    pair: residual.Pair,
    spoken: words.Spoken,
) -> None:
    (tmp_path / "index.html").write_text("earlier")
    monkeypatch.setattr(residual, "train_pair", lambda *_, **__: pair)
    monkeypatch.setattr(words, "speak", lambda *_, **__: spoken)
    module, _, name = where.rpartition(".")
    monkeypatch.setattr(importlib.import_module(f"saccade.studio.{module}"), name, stop)
    with pytest.raises(KeyboardInterrupt):
        tour(tmp_path, networks=networks[:1], grow_steps=2)
    assert (tmp_path / "index.html").read_text() == "earlier"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"networks": ("nothing", "neither")}, "needs a trained network.*nothing was left out"),
        ({"networks": ()}, "one network or two"),
        ({"folder": "file/below"}, "Could not write"),
    ],
)
def test_mistakes_are_told_before_any_training(
    settings: dict[str, Any], message: str, tmp_path: Path, networks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(residual, "train_pair", stop)
    folder = tmp_path / settings.pop("folder", "page")
    with pytest.raises(SaccadeError, match=message):
        tour(folder, **{"networks": networks, "grow_steps": 2, **settings})


def test_seconds_choose_the_number_of_scenes(
    tmp_path: Path, networks: list[Path], monkeypatch: pytest.MonkeyPatch, made: Any
) -> None:
    asked: list[Recipe] = []

    def note(recipe: Recipe, **_: Callable[..., None]) -> None:
        asked.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(residual, "train_pair", note)
    with pytest.raises(KeyboardInterrupt):
        tour(tmp_path, networks=networks[:1], recipe=made.recipe, seconds=1e-9, grow_steps=2)
    assert asked[0].count == made.recipe.batch_size
