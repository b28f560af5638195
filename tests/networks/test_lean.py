"""The lean way back, held against plain autograd, bit for bit where that is promised."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.engine.guards import frozen
from saccade.networks import build
from saccade.networks.cifar_resnet import CifarResNet
from saccade.networks.lean import Lean
from saccade.networks.lean_ops import back_by_strides, folded
from saccade.networks.thin_vgg import ThinVGG


def pictures(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)) - 0.4


def made(make) -> nn.Module:
    """A module with random weights, whose batch norms have random statistics, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(std=0.2)
                layer.running_var.uniform_(0.5, 2)
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, std=0.2)
    return module.eval()


def leanly(function, x: Tensor, lean: Lean | None = None) -> Tensor:
    return (lean or Lean())(lambda pictures: {"y": function(pictures)}, x)["y"]


def both(function, x: Tensor, lean: Lean | None = None) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient of a function's output times fixed numbers: plainly, and leanly."""
    found = []
    for plain in (True, False):
        leaf = x.clone().requires_grad_()
        y = function(leaf) if plain else leanly(function, leaf, lean)
        pull = pictures(*y.shape, dtype=y.dtype, seed=9)
        found.append((y.detach(), torch.autograd.grad(y, leaf, pull)[0]))
    return found


def saved(function, x: Tensor) -> int:
    """Bytes that a function keeps for the way back, each storage once, without those of weights and of x."""
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.grad_fn is not None or not isinstance(tensor, nn.Parameter):
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = function(x.clone().requires_grad_())
    assert y.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def twice(relu):
    """The same ReLU used twice, as layers of zoo networks are."""
    return lambda x: relu(relu(1.0 * x) - 0.2)


def added(x):
    """A sum in place, whose summands are used before it."""
    y = 1.0 * x
    z = y.relu()
    y += z
    return y * z


def scaled(x):
    y = 1.0 * x
    y.mul_(x)
    return y + 1


def filled(x):
    """Values set in a constant and in a map."""
    y, z = torch.zeros_like(x.detach()), 2 * x
    y[:, ::2] = x[:, ::2].relu()
    z[:, 1] = 0.5
    return y * x + z


def held(x):
    with torch.no_grad():
        weight = x.relu().mean(1, keepdim=True)
    return weight * x


OPERATIONS = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "no bias, stride 2": nn.Conv2d(4, 6, 3, stride=2, bias=False),
    "stride and padding by side": nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(0, 2)),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4),
    "dilated": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "1x1": nn.Conv2d(4, 6, 1),
    "padding by name": nn.Conv2d(4, 6, 3, padding="same"),
    "no padding by name": nn.Conv2d(4, 6, 3, padding="valid"),
    "mirrored border": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "repeated border": nn.Conv2d(4, 6, 3, padding=2, padding_mode="replicate"),
    "border once around": nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "relu": nn.ReLU(),
    "relu in place": lambda x: nn.ReLU(inplace=True)(1.0 * x),
    "relu twice": twice(nn.ReLU()),
    "relu in place twice": twice(nn.ReLU(inplace=True)),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(1.0 * x, inplace=True),
    "torch.relu": torch.relu,
    "Tensor.relu": lambda x: x.relu(),
    "pool": nn.MaxPool2d(2),
    "pool overlapping": nn.MaxPool2d(3, 2),
    "pool with a border": nn.MaxPool2d(3, 2, padding=1),
    "pool to the ceiling": nn.MaxPool2d(3, 2, ceil_mode=True),
    "pool dilated": nn.MaxPool2d(2, 1, dilation=2),
    "pool by side": nn.MaxPool2d((2, 3), (1, 2)),
    "pool of ties": lambda x: F.max_pool2d(F.relu(x), 3, 1),
    "pool with its places": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "pad mirrored": lambda x: F.pad(x, [2, 1, 0, 3], mode="reflect"),
    "pad repeated": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "pad with a number": lambda x: F.pad(x, (1, 2, 3, 0), value=0.7),
    "pad once around": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "maps side by side": lambda x: torch.cat([x.relu(), 2 * x, x], 1),
    "with a constant beside": lambda x: torch.cat([x, torch.ones_like(x.detach())], 1),
    "parts of different use": lambda x: (lambda a, b: a.relu() * b)(*x.chunk(2, 1)),
    "added in place": added,
    "multiplied in place, not given back": scaled,
    "values set": filled,
    "without a gradient": held,
    "a function in place": lambda x: F.hardtanh(1.0 * x, -0.2, 0.2, inplace=True),
    "used three times": lambda x: (lambda y: y + y * y.relu())(x.sigmoid()),
    "cut off": lambda x: x.detach() * x,
    "parts of one gradient": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect") + F.pad(x, (1, 1, 1, 1), mode="reflect"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_bits_of_plain_autograd(name, layout, dtype):
    operation = OPERATIONS[name]
    if isinstance(operation, nn.Module):
        operation = operation.to(dtype).requires_grad_(False)
    x = pictures(2, 4, 9, 11, dtype=dtype).contiguous(memory_format=layout)
    before = x.clone()
    (value, slope), (lean_value, lean_slope) = both(operation, x)
    assert torch.equal(lean_value, value)
    assert torch.equal(lean_slope, slope)
    assert lean_value.stride() == value.stride()
    assert torch.equal(x, before)
    assert slope.abs().max() > 0.1


def test_what_is_added_in_place_to_the_output_of_a_relu_does_not_change_its_mask():
    """PyTorch refuses the way back of this."""

    def inside(x: Tensor) -> Tensor:
        y = (1.0 * x).relu()
        y += x
        return y * x

    x = pictures(2, 4, 9, 11)
    for dtype in (None, torch.bfloat16):
        (value, slope), _ = both(lambda x: ((1.0 * x).relu() + x) * x, x)
        leaf = x.clone().requires_grad_()
        lean_value = leanly(inside, leaf, Lean(None, dtype))
        (lean_slope,) = torch.autograd.grad(lean_value, leaf, pictures(*lean_value.shape, seed=9))
        assert torch.equal(lean_value, value)
        assert (lean_slope - slope).norm() <= (0.01 if dtype else 0) * slope.norm()


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_that_of_pytorch_to_rounding(affine):
    norm = made(lambda: nn.BatchNorm2d(4, affine=affine)).double().requires_grad_(False)
    (value, slope), (lean_value, lean_slope) = both(norm, pictures(2, 4, 9, 11))
    torch.testing.assert_close(lean_value, value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(lean_slope, slope, rtol=1e-12, atol=1e-14)
    training = made(lambda: nn.BatchNorm2d(4)).double().requires_grad_(False).train()
    state = training.running_mean.clone()
    (value, slope), (lean_value, lean_slope) = both(training, pictures(2, 4, 9, 11))
    assert torch.equal(value, lean_value)  # that of the batch is left to PyTorch
    assert torch.equal(slope, lean_slope)
    assert not torch.equal(training.running_mean, state)


def vgg() -> nn.Module:
    """Four convolutions with two pools between them, ReLUs in place."""
    layers: list[nn.Module] = []
    for cin, cout, pool in ((3, 8, False), (8, 8, True), (8, 16, False), (16, 16, True)):
        layers += [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True)] + [nn.MaxPool2d(2)] * pool
    return nn.Sequential(OrderedDict((str(place), layer) for place, layer in enumerate(layers)))


NETWORKS = {
    "vgg": (vgg, True),
    "squeezenet": (lambda: build("squeezenet1_1", num_classes=10), True),
    "thin vgg": (lambda: ThinVGG(widths=(4, 4, 8, 8), full=(8,) * 5, num_classes=8), True),
    "tinynet": (lambda: build("tinynet", num_classes=5, widths=(8, 8, 8, 8)), False),
    "cifar resnet": (lambda: CifarResNet(num_classes=5, depth=8), False),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name, dtype):
    make, bitwise = NETWORKS[name]
    network = made(make).to(dtype).requires_grad_(False)
    (value, slope), (lean_value, lean_slope) = both(network, pictures(2, 3, 36, 44, dtype=dtype))
    assert slope.abs().max() > 0
    if bitwise:
        assert torch.equal(lean_value, value)
        assert torch.equal(lean_slope, slope)
    else:
        near = 1e-11 if dtype == torch.float64 else 1e-4
        assert (lean_value - value).norm() < near * value.norm()
        assert (lean_slope - slope).norm() < near * slope.norm()


def test_gradients_go_to_the_pictures_alone():
    network = made(vgg).double()
    (_, slope), (_, lean_slope) = both(network, pictures(2, 3, 12, 12))
    assert torch.equal(lean_slope, slope)
    network.zero_grad(set_to_none=True)
    leanly(network, pictures(2, 3, 12, 12).requires_grad_()).square().sum().backward()
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert leanly(network, pictures(2, 3, 12, 12)).grad_fn is None
    with torch.no_grad():
        assert leanly(network, pictures(2, 3, 12, 12).requires_grad_()).grad_fn is None


def test_several_outputs_some_of_which_are_not_used():
    network, x = made(vgg).double().requires_grad_(False), pictures(2, 3, 12, 12).requires_grad_()

    def run(x: Tensor) -> dict[str, Tensor]:
        early = network[:3](x)
        return {"early": early, "late": network[3:](1.0 * early), "pictures": x, "fixed": torch.ones(2)}

    plain, lean = run(x), Lean()(run, x)
    assert all(torch.equal(plain[name], lean[name]) for name in plain)
    assert not lean["fixed"].requires_grad
    for names in (["early"], ["late"], ["late", "early", "pictures"]):
        slopes = [
            torch.autograd.grad(sum(found[name].square().sum() for name in names), x, retain_graph=True)[0]
            for found in (plain, lean)
        ]
        torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["vgg", "squeezenet", "thin vgg", "tinynet"])
def test_with_16_bits_on_the_way_back_values_are_exact_and_gradients_nearly(name):
    network = made(NETWORKS[name][0]).requires_grad_(False)
    x = pictures(2, 3, 45, 44, dtype=torch.float32)
    lean = Lean(torch.float32, torch.bfloat16)
    (value, slope), (lean_value, lean_slope) = both(network, x, lean)
    torch.testing.assert_close(lean_value, value, rtol=1e-5, atol=1e-5 * float(value.abs().max()))
    assert lean_value.dtype == lean_slope.dtype == torch.float32
    assert (lean_slope - slope).norm() < 0.02 * slope.norm()
    assert not torch.equal(lean_slope, slope)


def test_outputs_may_be_given_in_16_bits_and_share_what_a_relu_keeps():
    network = made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())).requires_grad_(False)
    lean, x = Lean(torch.float32, torch.bfloat16), pictures(1, 3, 20, 20, dtype=torch.float32).requires_grad_()

    def run(x: Tensor) -> dict[str, Tensor]:
        before = network[0](x)
        return {"before": before, "relu": network[1](before)}

    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        found = lean(run, x, low=["before", "relu"])
    assert {one.dtype for one in found.values()} == {torch.bfloat16}
    assert found["relu"].untyped_storage().data_ptr() in {one.untyped_storage().data_ptr() for one in kept}
    assert torch.equal(found["relu"], network(x).to(torch.bfloat16))
    slope, plain = (torch.autograd.grad(sum(y.float().sum() for y in each.values()), x)[0] for each in (found, run(x)))
    assert (slope - plain).norm() < 0.01 * plain.norm()


@pytest.mark.parametrize("size", [(9, 11), (16, 15), (8, 8)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(7, 2, 3), (7, 2, 0), (3, 2, 1), (11, 4, 2), (2, 2, 0), (1, 2, 0), (2, 3, 1)]
)
def test_the_way_back_through_strides(kernel, stride, padding, size):
    weight = pictures(5, 3, kernel, kernel)
    x = pictures(2, 3, *[side + kernel for side in size]).requires_grad_()
    y = F.conv2d(x, weight, None, stride, padding)
    pull = pictures(*y.shape, seed=4)
    (expected,) = torch.autograd.grad(y, x, pull)
    found = back_by_strides(pull, weight, stride, [padding] * 2, (x.shape[2], x.shape[3]))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pad", [[1, 1, 1, 1], [2, 1, 0, 3], [0, 0, 0, 0], [4, 3, 4, 4]])
def test_a_mirrored_border_is_folded_back(pad):
    x = pictures(2, 3, 5, 6).requires_grad_()
    y = F.pad(x, pad, mode="reflect")
    pull = pictures(*y.shape, seed=4)
    found = folded(pull.clone(), pad)
    torch.testing.assert_close(found, torch.autograd.grad(y, x, pull)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_at_most_half_of_the_bytes(name):
    network = made(NETWORKS[name][0]).requires_grad_(False)
    x = pictures(1, 3, 64, 64, dtype=torch.float32)

    plain, found = saved(network, x), saved(lambda x: leanly(network, x), x)
    assert 0 < found <= plain / 2


def test_frozen_for_a_while_is_frozen_and_put_back():
    network = made(vgg).double()
    x = pictures(1, 3, 12, 12).requires_grad_()
    with frozen(network):
        y = leanly(network, x)
    (slope,) = torch.autograd.grad(y.sum(), x)  # after the weights are trained again
    assert torch.equal(slope, torch.autograd.grad(network(x).sum(), x)[0])
    assert all(p.requires_grad and p.grad is None for p in network.parameters())


def test_padding_by_name_goes_with_16_bits():
    network = made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding="same", dilation=2)))
    network.requires_grad_(False)
    (value, _), (half, _) = both(network, pictures(1, 3, 20, 20, dtype=torch.float32), Lean(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.float() - value).norm() < 0.03 * value.norm()


@pytest.mark.parametrize("name", ["vgg", "squeezenet"])
def test_in_16_bits_it_is_near_and_the_weights_are_converted_once(name):
    network = made(NETWORKS[name][0]).requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lean = Lean(torch.bfloat16)
    x = pictures(1, 3, 36, 44, dtype=torch.float32)
    (value, slope), (half_value, half_slope) = both(network, x, lean)
    assert slope.dtype == half_slope.dtype == torch.float32
    assert half_value.dtype == torch.bfloat16
    assert (half_value.float() - value).norm() < 0.03 * value.norm()
    cosine = F.cosine_similarity(half_slope.flatten(), slope.flatten(), dim=0)
    assert cosine > 0.95
    kept = dict(lean._weights)
    both(network, x, lean)
    assert kept
    assert lean._weights.keys() == kept.keys()
    assert all(lean._weights[key][1] is made for key, (_, made) in kept.items())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_outside_of_it_all_is_as_before():
    state, x = torch.get_rng_state(), pictures(1, 3, 8, 8)
    relu, network = F.relu, made(vgg).double().requires_grad_(False)
    with pytest.raises(RuntimeError):
        leanly(network, x[:, :2])
    assert F.relu is relu
    y = network(x.requires_grad_())
    assert "Relu" in type(y.grad_fn.next_functions[0][0]).__name__  # PyTorch's own node
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shared_relu_keeps_its_output_and_no_mask():
    network = made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU()))
    network.requires_grad_(False)
    x = pictures(1, 3, 20, 20, dtype=torch.float32)

    def run(x: Tensor, *shared: nn.Module) -> dict[str, Tensor]:
        def maps(x: Tensor) -> dict[str, Tensor]:
            early = network[1](network[0](x))
            return {"early": early, "late": network[3](network[2](early))}

        return Lean()(maps, x, shared=shared)

    places = 18 * 18
    alone = saved(lambda x: run(x)["late"], x)
    together = saved(lambda x: run(x, network[1], network[2])["late"], x)
    assert together - alone == 8 * places * 3  # 4 bytes in place of 1, which the caller holds in any case
    before, after = (torch.autograd.grad(run(leaf, *some)["late"].square().sum(), leaf)[0] for leaf, some in (
        (x.clone().requires_grad_(), ()), (x.clone().requires_grad_(), (network[1],))))  # fmt: skip
    assert torch.equal(before, after)
    with pytest.raises(RuntimeError):
        run(x[:, :2].requires_grad_(), network[1])
    assert not network[1]._forward_pre_hooks


def test_places_of_a_pool_are_kept_as_small_numbers():
    kept = []
    x = pictures(1, 1, 6, 40, dtype=torch.float32).requires_grad_()
    pool = lambda x: F.max_pool2d(x, 3, 2, padding=1)  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = leanly(pool, x)
    assert [tensor.dtype for tensor in kept] == [torch.int32]
    assert torch.equal(*(torch.autograd.grad(each.square().sum(), x)[0] for each in (y, pool(x))))
