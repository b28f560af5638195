"""Which step an operation of PyTorch is: one rule each, by the operation's name."""

from saccade.networks.bounds.affine_rules import AFFINE
from saccade.networks.bounds.monotone_rules import MONOTONE
from saccade.networks.bounds.shape_rules import SHAPES
from saccade.networks.bounds.tracked import Rule

RULES: dict[str, Rule] = {**AFFINE, **SHAPES, **MONOTONE}

ABOUT = {"__get__", "size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "is_contiguous", "stride"}
ABOUT |= {"__len__", "get_device", "is_complex", "element_size", "__hash__"}
"""What tells of a tensor only its shape, kind or place."""

INPLACE = {"relu_", "leaky_relu_", "elu_", "sigmoid_", "tanh_", "clamp_", "hardtanh_", "neg_"}
INPLACE |= {"add_", "sub_", "mul_", "div_"}
"""Operations that change their tensor, with the rule of the one that does not."""
