"""The part of the tour on style."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade.networks import load
from saccade.studio import styled
from saccade.style import score
from saccade.style.presets import PRESETS


@pytest.fixture(scope="module")
def painted(networks: list[Path]) -> styled.Styled:
    return styled.restyle([load(path) for path in networks], steps=2)


def test_repainting_brings_the_objective_down(painted: styled.Styled) -> None:
    for network, picture in zip(painted.networks, painted.repainted, strict=True):
        weights = {"style_weights": PRESETS["saccade"].style_weights[:3]}
        preset = replace(PRESETS["saccade"], **weights)
        both = torch.stack([painted.content, picture])
        total = score(both, painted.content[None], [painted.style[None]], network=network, preset=preset).total
        assert total[1] < 0.8 * total[0]


def test_every_network_of_the_part_is_named(painted: styled.Styled) -> None:
    html = styled.styled_section(6, painted)
    assert "twin &lt;2&gt;" in html
    assert "two networks" in html
    assert all(name in html for name, _ in painted.fast)
    assert html.count("<img") == 2 + len(painted.repainted) + len(painted.fast)


def test_without_style_networks_and_with_one_eye(painted: styled.Styled) -> None:
    alone = replace(painted, networks=painted.networks[:1], repainted=painted.repainted[:1], fast=())
    html = styled.styled_section(6, alone)
    assert "In one pass" not in html
    assert "two networks" not in html
    assert html.count("<img") == 3
    assert styled.figures(alone)["styled"].shape[0] == 3
