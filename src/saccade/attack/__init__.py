"""How a network can be fooled, how well it stands that, and what can be proved of it."""

from saccade.attack.attacks import ATTACKS, PGD, Attack, fgsm, find_attack, pgd
from saccade.attack.certify import (
    Certificate,
    Interval,
    Smoothed,
    Survey,
    Verdict,
    certify,
    interval_bounds,
    linear_bounds,
    predict_smoothed,
    smoothed,
    survey,
    verify,
)
from saccade.attack.corruptions import (
    CORRUPTIONS,
    Corrupted,
    Corruption,
    MeanShare,
    corrupt,
    draw_corruptions,
    evaluate_corruptions,
)
from saccade.attack.draw import draw_attack
from saccade.attack.engine import AttackWarning, Result
from saccade.attack.evaluate import (
    SUITES,
    Curve,
    Evaluation,
    Share,
    evaluate,
    export_8bit,
    export_found,
    robustness_curve,
    write_report,
)
from saccade.attack.linear import linear_attack
from saccade.attack.make_adversarial import Fooled, make_adversarial_attack
from saccade.attack.surrogates import Ensemble, InTurn, vicinity

__all__ = [
    "ATTACKS",
    "CORRUPTIONS",
    "PGD",
    "SUITES",
    "Attack",
    "AttackWarning",
    "Certificate",
    "Corrupted",
    "Corruption",
    "Curve",
    "Ensemble",
    "Evaluation",
    "Fooled",
    "InTurn",
    "Interval",
    "MeanShare",
    "Result",
    "Share",
    "Smoothed",
    "Survey",
    "Verdict",
    "certify",
    "corrupt",
    "draw_attack",
    "draw_corruptions",
    "evaluate",
    "evaluate_corruptions",
    "export_8bit",
    "export_found",
    "fgsm",
    "find_attack",
    "interval_bounds",
    "linear_attack",
    "linear_bounds",
    "make_adversarial_attack",
    "pgd",
    "predict_smoothed",
    "robustness_curve",
    "smoothed",
    "survey",
    "verify",
    "vicinity",
    "write_report",
]
