"""METEOR and SPICE, which exist in Java only, through the package pycocoevalcap where it is installed."""

from collections.abc import Sequence
from importlib import import_module

from saccade.errors import SaccadeError

Words = Sequence[str]
_SCORERS = {"METEOR": ("pycocoevalcap.meteor.meteor", "Meteor"), "SPICE": ("pycocoevalcap.spice.spice", "Spice")}


def java_scores(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """METEOR 1.5 (Denkowski and Lavie 2014) and SPICE (Anderson et al. 2016, arXiv:1607.08822), in [0, 1].

    Those of the two that run here: both need pycocoevalcap and Java, SPICE also models that the package downloads at
    its first use. Raises `SaccadeError` that says why if neither runs.
    """
    said = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    truth = {i: [" ".join(words) for words in sentences] for i, sentences in enumerate(references)}
    found: dict[str, float] = {}
    reasons: list[str] = []
    for name, (module, scorer) in _SCORERS.items():
        try:
            found[name] = float(getattr(import_module(module), scorer)().compute_score(truth, said)[0])
        except Exception as error:  # a missing package, Java or download, or whatever a foreign program may raise
            why = str(error).splitlines()[0] if str(error) else "no reason given"
            reasons.append(f"{name}: {type(error).__name__}, {why}")
    if not found:
        raise SaccadeError(
            f"Scoring with METEOR and SPICE: neither runs here ({'; '.join(reasons)}). They need Java and "
            "`pip install pycocoevalcap`; BLEU, ROUGE-L and CIDEr-D need neither."
        )
    return found
