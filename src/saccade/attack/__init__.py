"""How a network can be fooled: adversarial examples."""

from saccade.attack.attacks import ATTACKS, PGD, Attack, fgsm, find_attack, pgd
from saccade.attack.draw import draw_attack
from saccade.attack.engine import AttackWarning, Result
from saccade.attack.linear import linear_attack
from saccade.attack.make_adversarial import Fooled, make_adversarial_attack

__all__ = [
    "ATTACKS",
    "PGD",
    "Attack",
    "AttackWarning",
    "Fooled",
    "Result",
    "draw_attack",
    "fgsm",
    "find_attack",
    "linear_attack",
    "make_adversarial_attack",
    "pgd",
]
