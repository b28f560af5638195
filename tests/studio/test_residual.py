"""What the third part says follows from what was measured."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from saccade.networks import Network
from saccade.studio import residual
from saccade.studio.residual import RECIPE, Pair, residual_section, within
from saccade.train import Fitted


def pair(plain: float, resid: float) -> Pair:
    """As if trained for two epochs with these final accuracies."""

    def fitted(accuracy: float) -> Fitted:
        rows: list[dict[str, Any]] = [
            {"step": 2, "steps": 4, "loss": 2.0, "val_accuracy": accuracy / 2},
            {"step": 3, "steps": 4, "loss": 1.5},
            {"step": 4, "steps": 4, "loss": 1.0, "val_accuracy": accuracy},
        ]
        return Fitted(Network(nn.Linear(2, 3)), rows, accuracy, 2, 12.3)

    return Pair(
        replace(RECIPE, epochs=2),
        ("circle", "star", "heart"),
        {"plain32": fitted(plain), "resnet32": fitted(resid)},
        torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)),
        labels=torch.tensor([0, 1, 2]),
        said=torch.tensor([0, 2, 2]),
    )


@pytest.mark.parametrize(
    ("plain", "resid", "says"),
    [
        (0.2, 0.8, "how much longer it takes"),
        (0.8, 0.2, "plain one is ahead"),
        (0.51, 0.5, "about equal"),
        (0.1, 0.101, "about equal"),
    ],
)
def test_the_verdict_follows_the_figures(plain: float, resid: float, says: str) -> None:
    html = residual_section(pair(plain, resid))
    assert sum(words in html for words in ("how much longer it takes", "plain one is ahead", "about equal")) == 1
    assert says in html
    assert f"{100 * plain:.0f} %" in html
    assert f"{100 * resid:.0f} %" in html
    assert "After 12 and 12 seconds" in html


def test_scenes_are_marked_right_or_wrong() -> None:
    html = residual_section(pair(0.2, 0.8))
    assert html.count('<p class="yes">') == 2
    assert html.count('<p class="no">heart</p><p>is a star</p>') == 1
    assert "2 of 3 are right" in html
    assert "circle, star or heart" in html
    assert "33 %" in html  # by guessing


def test_plots_are_described_in_words() -> None:
    html = residual_section(pair(0.2, 0.8))
    assert "plain from 0.10 to 0.20, residual from 0.40 to 0.80" in html
    assert "plain from 2.00 to 1.00, residual from 2.00 to 1.00" in html


@pytest.mark.parametrize(("seconds", "count"), [(120.0, 1024), (60.0, 512), (0.001, 64)])
def test_as_many_scenes_as_the_time_allows(seconds: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([50.0, 2.5])  # on 4 batches of 64; the first time, while warming up, more
    monkeypatch.setattr(residual, "_train", lambda *_: SimpleNamespace(seconds=next(spent)))
    assert within(replace(RECIPE, epochs=6, batch_size=64, size=16), seconds).count == count
