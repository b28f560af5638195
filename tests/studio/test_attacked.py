"""Of the tour: photographs under attack, as the attack found them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.explain import saliency
from saccade.networks import load
from saccade.studio import attacked, eye


@pytest.fixture(scope="module")
def found(networks: list[Path]) -> list[attacked.Attacked]:
    return attacked.under_attack([eye.look(load(path)) for path in networks])


def test_pictures_answers_and_maps_belong_together(found: list[attacked.Attacked]) -> None:
    for one in found:
        x = eye.look(one.network).pictures[list(attacked.SHOWN_UNDER_ATTACK)]
        change = (one.adversarial - x).abs().flatten(1).amax(1)
        assert (change <= attacked.EPS * (1 + 1e-6)).all()
        with torch.no_grad():
            labels, now = one.network(x).argmax(1), one.network(one.adversarial).argmax(1)
        fooled = labels != now
        assert ((change > 0) == fooled).all()
        assert torch.equal(one.fooled, fooled)
        assert (one.smallest[fooled] <= attacked.EPS * 1.05).all()
        for i, (before, after) in enumerate(one.names):
            assert before.startswith(f"{one.network.class_name(int(labels[i]))}, ")
            assert after.startswith(f"{one.network.class_name(int(now[i]))}, ")
        torch.testing.assert_close(one.before, saliency(one.network, x, labels))
        torch.testing.assert_close(one.after, saliency(one.network, one.adversarial, labels))
    assert any((one.smallest < torch.inf).any() for one in found)


def test_the_page_names_what_it_shows(found: list[attacked.Attacked]) -> None:
    html = attacked.attacked_html(found)
    for one in found:
        if one.fooled.any():
            maps = [maps[one.fooled].flatten(1).numpy() for maps in (one.before, one.after)]
            expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*maps, strict=True)])
            assert f"{expected:.2f}" in html
    assert html.count("<img") == 2 * 3 * len(attacked.SHOWN_UNDER_ATTACK)
    assert "twin &lt;2&gt;" in html
    assert "Chelsea, Coffee and Motorcycle" in html
    assert f"{255 * float(found[0].smallest[0]):.1f}" in html
    assert attacked.attacked_html(found[:1]).count("<img") == 3 * len(attacked.SHOWN_UNDER_ATTACK)
    assert attacked.figures(found)["attacked"].shape[1] > 6 * 200
