"""How a network can be fooled: adversarial examples."""

from saccade.attack.draw import draw_attack
from saccade.attack.make_adversarial import Fooled, make_adversarial_attack

__all__ = ["Fooled", "draw_attack", "make_adversarial_attack"]
