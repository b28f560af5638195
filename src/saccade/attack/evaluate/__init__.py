"""How well a network stands attacks: suites of them, curves over budgets, and what casts doubt on the answer."""

from saccade.attack.evaluate.curve import Curve, robustness_curve
from saccade.attack.evaluate.evaluate import evaluate
from saccade.attack.evaluate.evaluation import Evaluation, Row
from saccade.attack.evaluate.export8 import Exported, export_8bit, export_found
from saccade.attack.evaluate.probe import Check
from saccade.attack.evaluate.report import write_report
from saccade.attack.evaluate.suites import SUITES
from saccade.attack.evaluate.wilson import Share, wilson

__all__ = [
    "SUITES",
    "Check",
    "Curve",
    "Evaluation",
    "Exported",
    "Row",
    "Share",
    "evaluate",
    "export_8bit",
    "export_found",
    "robustness_curve",
    "wilson",
    "write_report",
]
