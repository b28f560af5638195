"""The transformation network: its layers against others written plainly, any size, many styles, one file."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from style.fast.nets import SMALL, pictures, style_network
from torch import nn
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.style.fast.network import FastStyle, load_fast, shipped_styles
from saccade.style.fast.transformer import StyleNorm, TransformationNet, shared_statistics


def plainly(state, x):
    """Johnson's network as PyTorch's example writes it, by the names in its files."""

    def conv(x, name, stride=1, up=False):
        x = F.interpolate(x, scale_factor=2, mode="nearest") if up else x
        weight = state[f"{name}.conv2d.weight"]
        return F.conv2d(F.pad(x, [weight.shape[-1] // 2] * 4, "reflect"), weight, state[f"{name}.conv2d.bias"], stride)

    def norm(x, name):
        return F.instance_norm(x, weight=state[f"{name}.weight"].flatten(), bias=state[f"{name}.bias"].flatten())

    x = norm(conv(x, "conv1"), "in1").relu()
    x = norm(conv(x, "conv2", 2), "in2").relu()
    x = norm(conv(x, "conv3", 2), "in3").relu()
    blocks = sum(key.startswith("res") and key.endswith("in1.weight") for key in state)
    for i in range(1, blocks + 1):
        inner = norm(conv(x, f"res{i}.conv1"), f"res{i}.in1").relu()
        x = x + norm(conv(inner, f"res{i}.conv2"), f"res{i}.in2")
    x = norm(conv(x, "deconv1", up=True), "in4").relu()
    x = norm(conv(x, "deconv2", up=True), "in5").relu()
    return conv(x, "deconv3")


def test_its_layers_are_those_of_the_paper():
    network = style_network()
    x = pictures(2, 32, 44)
    with torch.no_grad():
        assert_close(network(x), plainly(network.net.state_dict(), x * 4 - 2).sigmoid(), atol=2e-5, rtol=0)


def test_loads_the_files_of_pytorch_s_example(tmp_path):
    made = style_network(widths=(8, 8, 12), blocks=2, kernel=9, values="bytes").net.state_dict()
    file = {key: value[0] if value.ndim == 2 else value for key, value in made.items()}
    file |= {f"{key.removesuffix('weight')}running_mean": value for key, value in file.items() if value.ndim == 1}
    torch.save(file, tmp_path / "candy.pth")
    network = load_fast(tmp_path / "candy.pth")
    x = pictures(1, 24, 32)
    with torch.no_grad():
        expected = (plainly(made, x * 255) / 255).clamp(0, 1)
        assert_close(network(x), expected, atol=2e-5, rtol=0)
    assert network.styles == ("candy",)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SaccadeError, match="not in the layout"):
        load_fast(tmp_path / "other.pth")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_any_size_in_is_the_same_size_out(h, w, dilation):
    with torch.no_grad():
        made = style_network(dilations=(dilation,))(pictures(2, h, w))
    assert made.shape == (2, 3, h, w)
    assert torch.isfinite(made).all()


def test_a_style_of_several_is_that_network_alone():
    many, x = style_network(("a", "b", "c")), pictures(2, 16, 20)
    for number, name in enumerate(many.styles):
        alone = FastStyle(architecture=SMALL).eval()
        own = many.net.state_dict()
        alone.net.load_state_dict({k: v[number : number + 1] if ".conv2d." not in k else v for k, v in own.items()})
        with torch.no_grad():
            assert_close(many(x, name), alone(x), atol=1e-5, rtol=0)
            assert torch.equal(many(x, name), many(x, [float(i == number) for i in range(3)]))
    with torch.no_grad():
        assert not torch.allclose(many(x, "a"), many(x, "b"), atol=1e-3)
        assert torch.equal(many(x, [1, 1, 0]), many(x, [0.5, 0.5, 0]))


def test_mixing_is_linear_in_scales_and_shifts():
    norm = StyleNorm(3, 2).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    ends = [norm(x, torch.eye(2, dtype=torch.float64)[i : i + 1]) for i in (0, 1)]
    assert_close(norm(x, torch.tensor([[0.25, 0.75]], dtype=torch.float64)), 0.25 * ends[0] + 0.75 * ends[1])


def test_who_else_is_in_the_batch_does_not_matter():
    network, x = style_network(), pictures(3, 20, 24)
    with torch.no_grad():
        assert_close(network(x), torch.cat([network(one) for one in x.split(1)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dilations", [(1, 1), (1, 3)])
def test_an_output_pixel_sees_no_further_than_the_halo(dilations):
    network = style_network(blocks=2, dilations=dilations)
    x = pictures(1, 160, 160).requires_grad_()
    samples, one = pictures(1, 64, 64, 1), torch.ones(1, 1)
    with torch.no_grad():
        context = shared_statistics(network.net, samples, one)
    with context:
        (seen,) = torch.autograd.grad(network.net(x, one)[0, :, 80, 80].sum(), x)
    rows = seen.abs().sum((0, 1, 3)).nonzero()[:, 0]
    reach = max(80 - int(rows.min()), int(rows.max()) - 80)
    assert network.net.halo - 12 <= reach <= network.net.halo


def test_shared_statistics_leave_no_trace():
    network, x, one = style_network(), pictures(1, 24, 24), torch.ones(1, 1)

    def broken():
        with shared_statistics(network.net, x, one):
            network(x[:, :, :0])

    with torch.no_grad():
        before = network(x)
        with shared_statistics(network.net, x, one):
            assert_close(network(x), before, atol=1e-5, rtol=0)  # its own statistics: the same picture
            assert not torch.allclose(network(0.5 * x), before, atol=1e-3)  # which another picture does not have
        assert torch.equal(network(x), before)
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            broken()
        assert torch.equal(network(x), before)


@pytest.mark.parametrize("half", [False, True])
def test_a_file_gives_the_network_back(tmp_path, half):
    network = style_network(("a", "b"))
    network.name, network.meta = "pair", {"licence": "MIT"}
    network.save(tmp_path / "pair.safetensors", half=half)
    again, x = load_fast(tmp_path / "pair.safetensors"), pictures(1, 16, 16)
    assert (again.name, again.styles, again.meta["licence"]) == ("pair", ("a", "b"), "MIT")
    with torch.no_grad():
        assert_close(again(x, "b"), network(x, "b"), atol=5e-3 if half else 0, rtol=0)


WRONG = {
    "no such style": (lambda: style_network(("a", "b"))(pictures(1, 8, 8), "c"), "has no style 'c'"),
    "number too large": (lambda: style_network(("a", "b"))(pictures(1, 8, 8), 2), "has no style 2"),
    "shares of another count": (lambda: style_network(("a", "b"))(pictures(1, 8, 8), [1.0]), "the shares are"),
    "shares all zero": (lambda: style_network(("a", "b"))(pictures(1, 8, 8), [0, 0]), "sum is above 0"),
    "mixing of another shape": (lambda: style_network().net(pictures(2, 8, 8), torch.ones(1, 1)), "one of each style"),
    "even kernel": (lambda: TransformationNet(kernel=4), "odd kernel"),
    "dilations of other blocks": (lambda: TransformationNet(dilations=(1, 2)), "5 blocks have the dilations"),
    "no dilation": (lambda: TransformationNet(blocks=1, dilations=(0,)), "of 1 or more"),
    "two widths": (lambda: TransformationNet(widths=(4, 4)), "three widths"),
    "no such network": (lambda: load_fast("nobody"), "neither a file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused(case):
    make, message = WRONG[case]
    with pytest.raises(SaccadeError, match=message):
        make()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    style_network().save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    with pytest.raises(SaccadeError, match="no whole safetensors"):
        load_fast(tmp_path / "cut.safetensors")
    (tmp_path / "wrong.safetensors").write_bytes(content.replace(b"fast-style", b"slow-style"))
    with pytest.raises(SaccadeError, match="holds no style network"):
        load_fast(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("name", shipped_styles())
def test_shipped_networks_are_small_keep_the_scene_and_change_its_colours(name):
    from saccade.pictures import resize, sample

    network = load_fast(name)
    assert shipped_styles()[name].stat().st_size <= 2e6
    assert shipped_styles()[name].with_suffix(".md").is_file()
    assert network.meta["licence"]
    photograph = resize(sample("coffee"), 96)[None]
    with torch.no_grad():
        made = network(photograph)
    light, drawn = (F.avg_pool2d(x.mean(1), 4).flatten() for x in (photograph, made))
    assert torch.corrcoef(torch.stack([light, drawn]))[0, 1] > 0.6
    assert (made.mean((2, 3)) - photograph.mean((2, 3))).abs().max() > 0.03
    assert made.std() > 0.1  # no grey mush
