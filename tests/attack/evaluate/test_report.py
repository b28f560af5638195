"""The page of an evaluation, and its numbers for machines."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attack.nets import conv_net, draw, labels_of

from saccade.attack.evaluate import Check, Evaluation, evaluate
from saccade.attack.evaluate.report import ball_name, write_report

X = draw(6, 3, 8, 8, dtype=torch.float32)
CLASSES = ("tabby, tabby cat", "salt & pepper", '<b>"bold"</b>', "espresso", "sea")


@pytest.fixture(scope="module")
def found() -> Evaluation:
    network = conv_net(dtype=torch.float32)
    return evaluate(network, X, labels_of(network, X), suite=["fgsm"], eps="4/255", checked=2)


def test_the_page_holds_all_that_was_found(found: Evaluation, tmp_path: Path) -> None:
    path = write_report(found, X, tmp_path, network="eye <1>", data="a & b", classes=CLASSES, made_by="saccade <x>")
    page = path.read_text("utf-8")
    assert f"<b>{found.robust.value:.1%}</b>" in page
    assert "right under attack, Linf 4/255" in page
    assert re.findall(r'<abbr title="[^"]*">([^<]*)</abbr>', page) == [row.title for row in found.attacks]
    shown = page[page.index('class="gallery"') :]
    assert shown.count("<figure>") == min(12, int(found.fooled.sum()))
    assert page.count('class="plot"') == 2
    assert page.count('<li class="yes">') + page.count('<li class="no">') == len(found.checks)
    assert "<1>" not in page
    assert '"bold"</b>' not in page
    assert "How eye &lt;1&gt; stands attacks" in page
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)  # it needs nothing but itself
    facts = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert facts["network"] == "eye <1>"
    assert facts["robust"]["count"] == found.robust.count
    assert facts["versions"]["torch"] == torch.__version__


def test_doubts_stand_first(found: Evaluation, tmp_path: Path) -> None:
    doubtful = replace(
        found, checks=(Check("chance", True, "it says <this> & that."), Check("fine", False, "all well."))
    )
    page = write_report(doubtful, X, tmp_path).read_text("utf-8")
    assert "1 of 2 checks casts doubt on these numbers" in page
    assert page.index("it says &lt;this&gt; &amp; that.") < page.index("Attack by attack")
    assert "No checks were made" in write_report(replace(found, checks=()), X, tmp_path).read_text("utf-8")


def test_without_a_curve_and_with_nothing_fooled(tmp_path: Path) -> None:
    network = conv_net(dtype=torch.float32)
    found = evaluate(network, X, labels_of(network, X), suite=["fgsm"], eps=0, curve=False, checked=0)
    page = write_report(found, X, tmp_path, classes=None).read_text("utf-8")
    assert "plot" not in page.partition("</style>")[2]
    assert "gallery" not in page.partition("</style>")[2]
    assert "100.0%" in page


@pytest.mark.parametrize(
    ("norm", "eps", "said"),
    [
        ("linf", 8 / 255, "Linf 8/255"),
        ("linf", 0.02, "Linf 0.02"),
        ("l2", 0.5, "L2 0.5"),
        ("l1", 12, "L1 12"),
        ("linf", 0, "Linf 0"),
    ],
)
def test_balls_in_words(norm: str, eps: float, said: str) -> None:
    assert ball_name(norm, eps) == said
