"""Style networks at work: tiles without seams, files one by one, steadiness, ONNX."""

import numpy as np
import pytest
import torch
from PIL import Image
from style.fast.nets import pictures, style_network
from torch.testing import assert_close

from saccade.errors import SaccadeError
from saccade.pictures import read, resize, sample, write
from saccade.pictures.original import read_original
from saccade.style.fast.apply import _reduced, apply_fast, restyle_files
from saccade.style.fast.export import export_fast
from saccade.style.fast.network import load_fast
from saccade.style.fast.stability import stability
from saccade.style.fast.transformer import shared_statistics


@pytest.mark.parametrize("size", [(203, 310), (130, 500)])
def test_tiles_are_the_whole_under_the_same_statistics(size):
    network, x = style_network(), pictures(1, *size)
    most = 128 * 128
    with torch.no_grad(), shared_statistics(network.net, _reduced(x, most), torch.ones(1, 1)):
        whole = network(x)
    assert_close(apply_fast(network, x, most=most), whole, atol=1e-5, rtol=0)
    with torch.no_grad():
        assert torch.equal(apply_fast(network, x), network(x))  # and small ones are done at once, exactly


def test_tiles_are_nearly_a_single_pass():
    network, x = load_fast("starry-night"), resize(sample("coffee"), 400)[None]
    most = 260 * 260
    assert _reduced(x, most).shape == (1, 3, 212, 318)  # as many pixels, of the same shape
    whole = apply_fast(network, x)
    apart = (apply_fast(network, x, most=most) - whole).abs().mean()
    assert apart < 0.25 * (whole - x).abs().mean()  # of what the style changes
    with torch.no_grad(), shared_statistics(network.net, x[..., :260, :260], torch.ones(1, 1)):
        assert (network(x) - whole).abs().mean() > 1.5 * apart  # a corner does not do as well


def test_dtype_follows_the_pictures():
    assert apply_fast(style_network(), pictures(1, 16, 16).double()).dtype == torch.float64


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "in"
    for i in range(3):
        write(pictures(1, 20, 24, i)[0], folder / f"{i:04d}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_files_one_in_one_out_and_a_stopped_run_goes_on(frames, tmp_path):
    network, out = style_network(), tmp_path / "out"
    steps = restyle_files(network, frames, out)
    assert next(steps).written
    steps.close()
    assert [path.name for path in out.iterdir()] == ["0000.png"]
    seen = []
    assert [done.written for done in restyle_files(network, frames, out, callback=seen.append)] == [False, True, True]
    assert len(seen) == 3
    expected = apply_fast(network, read(frames / "0002.png")[None])[0]
    assert_close(read(out / "0002.png"), expected, atol=0.51 / 255, rtol=0)
    (out / "0001.png").write_bytes(b"stale")
    assert all(done.written for done in restyle_files(network, frames, out, overwrite=True, size=32))
    assert read(out / "0001.png").shape == (3, 32, 38)


def test_alpha_and_grey_are_kept(frames, tmp_path):
    alpha = Image.new("L", (24, 20), 0)
    alpha.paste(200, (4, 4, 20, 16))
    with Image.open(frames / "0000.png") as frame:
        frame.convert("L").save(tmp_path / "grey.png")
        frame.putalpha(alpha)
        frame.save(tmp_path / "cut.png")
    network = style_network()
    list(restyle_files(network, [tmp_path / "cut.png", tmp_path / "grey.png"], tmp_path / "out", keep_grey=True))
    made = read_original(tmp_path / "out" / "cut.png")
    assert made.alpha is not None
    assert torch.equal(made.alpha[0], torch.from_numpy(np.array(alpha)) / 255)
    assert read_original(tmp_path / "out" / "grey.png").grey
    list(restyle_files(network, tmp_path / "grey.png", tmp_path / "colour"))
    assert not read_original(tmp_path / "colour" / "grey.png").grey


WRONG = {
    "same target": (lambda f: [f / "0000.png", f / "0000.png"], "would both become"),
    "over itself": (lambda f: f, "would replace it"),
    "no pictures": (lambda f: [], "no pictures"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused(frames, case):
    make, message = WRONG[case]
    with pytest.raises(SaccadeError, match=message):
        list(restyle_files(style_network(), make(frames), frames if case == "over itself" else frames.parent / "out"))


def test_a_network_that_moves_with_its_picture_is_steady():
    x = pictures(2, 60, 64)

    def blurred(x):
        return torch.nn.functional.avg_pool2d(x, 3, 1, 1)

    still = stability(blurred, x, noise=0.0)
    assert_close(still.output, torch.zeros(6, 2), atol=1e-6, rtol=0)
    noisy = stability(lambda x: x, x, noise=0.02)
    assert torch.equal(noisy.output, noisy.input)
    assert noisy.ratio == pytest.approx(1)
    assert float(noisy.drift.mean()) == pytest.approx(0.02 * 2 / torch.pi**0.5, rel=0.05)  # of two normals, clamped
    assert stability(lambda x: 2 * x, x).ratio == pytest.approx(2)


def test_a_network_that_paints_on_the_glass_is_not():
    x = torch.full((1, 3, 60, 64), 0.5)
    glass = pictures(1, 60, 64)
    found = stability(lambda x: glass[:, :, : x.shape[2], : x.shape[3]], x, noise=0.0, motions=((0, 1), (2, 3)))
    assert (found.output > 0.25).all()  # |u - v| of two uniforms is 1/3
    assert float(found.drift) == 0


def test_stability_refuses_what_it_cannot_measure():
    for settings in ({"motions": ()}, {"motions": ((0, -1),)}, {"motions": ((0, 40),)}):
        with pytest.raises(SaccadeError, match="Could not measure the stability"):
            stability(lambda x: x, pictures(1, 60, 64), **settings)


def test_onnx_gives_the_same_pictures_at_other_sizes(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = style_network(("a", "b"))
    assert export_fast(network, tmp_path / "b.onnx", style="b") < 1e-3
    session = onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])
    x = pictures(1, 40, 72, 4)
    (found,) = session.run(None, {"pictures": x.numpy()})
    with torch.no_grad():
        assert_close(torch.from_numpy(found), network(x, "b"), atol=1e-3, rtol=0)
