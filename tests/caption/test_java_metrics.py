"""METEOR and SPICE through a foreign package: what runs is given back, what does not is told."""

import shutil
import sys
from types import ModuleType

import pytest

from saccade.caption.java_metrics import java_scores
from saccade.errors import SaccadeError

CANDIDATES, REFERENCES = [["a", "dog"]], [[["a", "dog", "runs"], ["dogs"]]]


def stand_in(monkeypatch, module, scorer, score):
    class Scorer:
        def compute_score(self, truth, said):
            assert truth == {0: ["a dog runs", "dogs"]}
            assert said == {0: ["a dog"]}
            if score is None:
                raise OSError("no Java\nat all")
            return score, [score]

    made = ModuleType(module)
    setattr(made, scorer, Scorer)
    for name in ("pycocoevalcap", module.rpartition(".")[0]):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module, made)


def test_what_runs_is_given_back(monkeypatch):
    stand_in(monkeypatch, "pycocoevalcap.meteor.meteor", "Meteor", 0.25)
    stand_in(monkeypatch, "pycocoevalcap.spice.spice", "Spice", None)
    assert java_scores(CANDIDATES, REFERENCES) == {"METEOR": 0.25}


def test_where_nothing_runs_the_reasons_are_told(monkeypatch):
    stand_in(monkeypatch, "pycocoevalcap.meteor.meteor", "Meteor", None)
    stand_in(monkeypatch, "pycocoevalcap.spice.spice", "Spice", None)
    with pytest.raises(SaccadeError, match=r"METEOR: OSError, no Java; SPICE.*pip install pycocoevalcap"):
        java_scores(CANDIDATES, REFERENCES)


def test_the_real_meteor_prefers_the_truth():
    pytest.importorskip("pycocoevalcap", reason="the usual evaluation code is not installed")
    if shutil.which("java") is None:
        pytest.skip("there is no Java")
    references = [[["a", "brown", "dog", "runs", "over", "grass"]], [["two", "men", "play", "football"]]]
    good = java_scores([one[0] for one in references], references)["METEOR"]
    assert good > 0.9
    assert java_scores([one[0] for one in reversed(references)], references)["METEOR"] < 0.2
