"""Layer-wise relevance propagation: the score handed down to the pixels, by each unit to those that made it.

Bach and others 2015, doi:10.1371/journal.pone.0130140; Montavon and others 2019, "Layer-Wise Relevance Propagation: An
Overview", doi:10.1007/978-3-030-28954-6_10. A unit y = sum_i a_i w_i + b of relevance R gives to each a_i its share in
proportion to a_i w_i, as the rule says. What is sent back here is not the relevance of a value but its ratio to the
value: additions, averages, maxima, concatenations and ReLUs then hand it down by their ordinary gradients.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from saccade.engine.chunks import chunks, rows_at_once
from saccade.errors import SaccadeError
from saccade.explain.intercept import ELEMENTWISE, LINEAR, Intercept, Run, check_linear, secant, sent_back, sloped
from saccade.explain.question import Target, asking, finished

RULES = ("composite", "epsilon", "gamma", "alpha-beta")
LAYERS = {"linear", "conv1d", "conv2d", "conv3d"}
MAXIMA = frozenset(("Amax", "Max", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "AdaptiveMaxPool2D"))
SHIFTS = {"add", "sub", "rsub", "mul"}
SHAPES = {"flatten", "view", "reshape", "contiguous", "clone", "to", "float", "double", "half"}


def lrp(
    network: nn.Module,
    pictures: Tensor,
    target: Target,
    *,
    rule: str = "composite",
    epsilon: float = 0.25,
    gamma: float = 0.25,
    alpha: float = 2.0,
    beta: float = 1.0,
    batch_size: int | None = None,
) -> Float[Tensor, "n 3 h w"]:
    """Relevance of each pixel for the score, signed, by layer-wise relevance propagation.

    Bach and others 2015, doi:10.1371/journal.pone.0130140. The rule is that of convolutions and linear layers, of which
    a batch norm right behind one is a part; one that stands alone follows "epsilon". Activations pass relevance on, a
    maximum to the value that is largest, sums and averages in proportion to their summands. The sum is the score, less
    what biases contribute and what `epsilon` takes away. A constant shift and scale of the pixels, the normalisation,
    counts as part of the picture.

    Rules, of the share of a_i in y = sum_i a_i w_i + b, where p and n are the sums of its positive and of its negative
    terms, b among them:

    - "epsilon": a_i w_i / (y + e sign y), with e = `epsilon` times the root mean square of the layer's output for this
      picture. Close to 0 it is gradient x input for a ReLU network.
    - "gamma": in favour of the terms that have the sign of y, (a_i w_i)+ (1 + gamma) / (y + gamma p) of the positive
      and a_i w_i / (y + gamma p) of the negative ones for y > 0; where a >= 0 it is Montavon's.
    - "alpha-beta": alpha (a_i w_i)+ / p - beta (a_i w_i)- / n.
    - "composite": as Montavon and others recommend, gamma in the lower half of the layers, counted as they run,
      epsilon in the upper half, and in the first, at the pixels, the box rule for values from 0 to 1, (a_i w_i - l_i
      w_i+ - h_i w_i-) over its sum, where l and h are the darkest and the brightest value there can be.

    Args:
        network: pictures (N, 3, H, W) in [0, 1] to class scores (N, C), before any softmax; of convolutions, linear
            layers, activations that are 0 at 0, pooling, batch norms, sums and concatenations. Anything else is
            refused.
        pictures: float (N, 3, H, W), on the device of the network.
        target: whose score is explained, see `Target`.
        rule: one of the four above.
        epsilon: 0 or more. gamma: 0 or more. alpha, beta: 0 or more, alpha - beta = 1.
        batch_size: pictures at a time; by default as many as are fast and fit into memory.

    Returns:
        (N, 3, H, W), of the device and dtype of `pictures`.

    Raises:
        SaccadeError: the network does something for which there is no rule, with its name; the pictures have another
            shape or type; there is no such target or rule, or a setting is out of range.
    """
    operation = "compute LRP"
    if rule not in RULES:
        raise SaccadeError(f"Could not {operation}: there is no rule {rule!r}; there are {', '.join(RULES)}.")
    if min(epsilon, gamma, alpha, beta) < 0 or abs(alpha - beta - 1) > 1e-6:
        raise SaccadeError(
            f"Could not {operation}: epsilon {epsilon}, gamma {gamma}, alpha {alpha}, beta {beta}; they must be 0 or "
            "more, and alpha - beta must be 1, or relevance would be made or lost."
        )
    shares = _Shares(rule, epsilon, gamma, alpha, beta)
    with asking(network, pictures, target, operation) as question:
        found = torch.empty_like(question.x)
        for part in chunks(len(found), rows_at_once(network, question.x, batch_size, wanted=len(found))):
            x = question.x[part]
            factor = torch.ones_like(x, requires_grad=True)  # by which a pixel counts: relevance is the slope by it
            with _Propagate(operation, shares) as ways:
                given = ways.pixels(x, torch.zeros_like(x), torch.ones_like(x), factor)
                score = question.score(given, torch.arange(part.start, part.stop, device=x.device))
            check_linear(score, operation, LINEAR | MAXIMA)
            found[part] = question.slope(score, factor)
    return finished(found, operation)


@dataclass(frozen=True)
class _Layer:
    """A convolution, a linear layer or a batch norm, and its place among those that ran."""

    func: Any
    weight: Tensor
    bias: Tensor | None
    args: Any
    kwargs: Any
    place: int

    def __call__(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """What it makes of `x`, without the bias."""
        found: Tensor = self.func(x, self.weight if weight is None else weight, None, *self.args, **self.kwargs)
        return found

    def signed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of the positive and of the negative products of input and weight."""
        up, down = self.weight.clamp(min=0), self.weight.clamp(max=0)
        above, below = x.clamp(min=0), x.clamp(max=0)
        if not (x < 0).any():
            return self(above, up), self(above, down)
        return self(above, up) + self(below, down), self(above, down) + self(below, up)

    def biases(self) -> tuple[Tensor, Tensor]:
        """The positive and the negative part of the bias, as they are added to the output."""
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        bias = bias.view(-1, *(1,) * (self.weight.ndim - 2))
        return bias.clamp(min=0), bias.clamp(max=0)

    def then(self, scale: Tensor, shift: Tensor) -> "_Layer":
        """This layer with its output channels scaled and shifted."""
        bias = shift if self.bias is None else self.bias * scale + shift
        weight = self.weight * scale.view(-1, *(1,) * (self.weight.ndim - 1))
        return _Layer(self.func, weight, bias, self.args, self.kwargs, self.place)


@dataclass(frozen=True)
class _Shares:
    """The settings of `lrp`, and what they make of a layer."""

    rule: str
    epsilon: float
    gamma: float
    alpha: float
    beta: float

    def send_back(self, layer: _Layer, x: Tensor, above: Tensor, *, upper: bool) -> Tensor:
        """Ratios of relevance to value: those of a layer's output, `above` -> those of its input `x`.

        upper: whether it is in the upper half of the network.
        """
        rule = self.rule if self.rule != "composite" else "epsilon" if upper else "gamma"
        x = x.detach().requires_grad_()
        of_p, of_n = layer.biases()
        if rule == "epsilon" or layer.func is _scaled:
            with torch.enable_grad():
                products = layer(x)
            y = products.detach() + of_p + of_n
            size, rms = y.abs(), y.square().flatten(1).mean(1).sqrt().view(-1, *(1,) * (y.ndim - 1))
            (below,) = torch.autograd.grad(products, x, above * _ratio(size, size + self.epsilon * rms))
            return below
        with torch.enable_grad():
            positive, negative = layer.signed(x)
        p, n = positive.detach() + of_p, negative.detach() + of_n
        y = p + n
        if rule == "gamma":
            plain = _ratio(y, y + self.gamma * torch.where(y > 0, p, n))
            to_p, to_n = (plain * (1 + self.gamma * (sign * y > 0).to(y)) for sign in (1, -1))
        else:
            to_p, to_n = self.alpha * _ratio(y, p), -self.beta * _ratio(y, n)
        (below,) = torch.autograd.grad([positive, negative], x, [above * to_p, above * to_n])
        return below


class _Propagate(Intercept):
    """Makes layers and activations send back ratios of relevance to value."""

    def __init__(self, operation: str, shares: _Shares) -> None:
        super().__init__(operation)
        self.shares, self.layers = shares, 0
        self.seen: Any = WeakTensorKeyDictionary()  # pixels, shifted and scaled -> (value, lowest, highest, factor)
        self.made: Any = WeakTensorKeyDictionary()  # outputs of layers -> (input, layer, versions of both)

    def pixels(self, value: Tensor, lowest: Tensor, highest: Tensor, factor: Tensor) -> Tensor:
        """Pixels as the network is given them; only their factor is followed."""
        found = value * factor
        self.seen[found] = value, torch.minimum(lowest, highest), torch.maximum(lowest, highest), factor
        return found

    def written(self, x: Tensor, found: Tensor) -> Tensor:
        pixels = self.seen.get(found)
        self.seen.pop(x, None)
        if pixels is not None:
            self.seen[x] = pixels
        return super().written(x, found)

    def replace(self, name: str, run: Run, x: Tensor, place: int, func: Any, args: Any, kwargs: Any) -> Tensor | None:
        shifts = name in SHIFTS or (name == "div" and not place and not kwargs)
        if x in self.seen and (shifts or name in SHAPES or (name == "batch_norm" and kwargs.get("training") is False)):
            value, lowest, highest, factor = self.seen[x]
            return self.pixels(run(value), run(lowest), run(highest), run(factor) if name in SHAPES else factor)
        if place:
            return None
        if name in ELEMENTWISE:
            zero = torch.zeros_like(x)
            there = run(zero)
            if there.any():
                raise self.refusal(f"computes {name!r}, which is not 0 at 0")
            slope = secant(run, x, zero, there)
            return sloped(x, run, lambda above: above * slope)
        if name in LAYERS and len(args) > 1:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            rest = {key: value for key, value in kwargs.items() if key != "bias"}
            self.layers += 1
            return self.through(_Layer(func, args[1], bias, args[3:], rest, self.layers - 1), x, run)
        if name == "batch_norm" and kwargs.get("training") is False:
            zero = x.new_zeros(1, x.shape[1], *(1,) * (x.ndim - 2))
            shift = run(zero).flatten()
            scale = run(zero + 1).flatten() - shift
            before, layer, versions = self.made.get(x, (x, None, ()))
            if layer is not None and versions == (x._version, before._version) and x.ndim == layer.weight.ndim:
                value = x.detach()
                return self.through(layer.then(scale, shift), before, lambda _: run(value))
            weight = scale.view(-1, *(1,) * (x.ndim - 1))
            return self.through(_Layer(_scaled, weight, shift, (), {}, self.layers), x, run)
        return None

    def through(self, layer: _Layer, x: Tensor, run: Run) -> Tensor:
        """`run(x)`, which is what a layer makes of `x`."""
        boxed = self.seen.get(x) if self.shares.rule == "composite" else None
        value, version = x.detach(), x._version

        def back(above: Tensor) -> Tensor:
            if value._version != version:
                raise self.refusal("writes in place into what a layer was given")
            return self.shares.send_back(layer, value, above, upper=2 * layer.place >= self.layers)

        found = sloped(x, run, back) if boxed is None else _boxed(layer, run, *boxed)
        self.made[found] = x, layer, (found._version, version)
        return found


def _boxed(layer: _Layer, run: Run, value: Tensor, lowest: Tensor, highest: Tensor, factor: Tensor) -> Tensor:
    """What a layer makes of pixels, which count by how far they are from where they would speak least for it."""
    up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)

    def above_least(factor: Tensor) -> Tensor:
        return layer(value * factor) - layer(lowest * factor, up) - layer(highest * factor, down)

    def back(above: Tensor) -> Tensor:
        y = layer(value) + sum(layer.biases())
        return sent_back(above_least, factor, above * _ratio(y, above_least(torch.ones_like(factor))))

    return sloped(factor, lambda factor: run(value * factor), back)


def _scaled(x: Tensor, weight: Tensor, bias: None) -> Tensor:  # noqa: ARG001 - the signature of a layer
    """A batch norm, as a layer with one weight a channel, (C, 1, ...)."""
    return x * weight.transpose(0, 1)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0, as nothing is there to be shared in its proportion."""
    return torch.where(b == 0, 0.0, a / b.masked_fill(b == 0, 1))
