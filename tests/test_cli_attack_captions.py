"""`saccade attack PICTURE --sentence` as a person meets it."""

import json
from pathlib import Path

import pytest
from test_cli_attack import invoke

from saccade.errors import SaccadeError
from saccade.pictures import read


def test_a_captioner_is_made_to_say_a_sentence(tmp_path: Path) -> None:
    sheet, sentence = tmp_path / "sheet.png", "a dog runs on the beach"
    arguments = ["attack", "chelsea", "--sentence", sentence, "-o", str(sheet), "--steps", "100"]
    facts = json.loads(invoke(*arguments, "--json"))
    [row] = facts["pictures"]
    assert (facts["attack"], facts["norm"], facts["sentence"]) == ("APGD-DLR", "linf", sentence)
    assert row["fooled"]
    assert row["says"] == sentence != row["said"]
    assert 0 < row["norm"] <= 8 / 255 * (1 + 1e-6)
    assert read(sheet).shape[2] > 4 * 192
    said = invoke("attack", "chelsea", "--sentence", sentence, "-o", str(sheet), "-a", "fgsm", "--eps", "1/255")
    assert said.splitlines()[0] == f"chelsea: {row['said']}"
    assert "FGSM could not make it say the sentence" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sentence", "a xylophone"], "does not know 'xylophone'"),
        (["--sentence", "a dog", "--target", "1"], "neither --target nor --save"),
        (["--sentence", "a dog", "-c", "nobody"], "no captioner 'nobody'"),
        (["--sentence", "a dog", "-a", "deepfool"], "cannot aim at a class"),
    ],
)
def test_says_what_is_wrong(more: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SaccadeError, match=message):
        invoke("attack", "chelsea", "-o", str(tmp_path / "a.png"), *more)
