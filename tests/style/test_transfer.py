"""Style transfer as a whole: what must stay, what must not depend on what, and what is refused."""

from typing import Any

import pytest
import torch

from saccade.errors import SaccadeError
from saccade.networks.network import Network
from saccade.networks.registry import build
from saccade.pictures.colour import luminance
from saccade.style import style_transfer
from saccade.style.transfer import plan


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    keywords = {"num_classes": 3, "widths": (8, 8, 8, 8), "units": (1, 1, 1, 1)}
    return Network(build("tinynet", **keywords), architecture=("tinynet", keywords)).eval()


def picture(h: int, w: int, seed: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, h, w, generator=torch.Generator().manual_seed(seed))


def run(content: Any, styles: Any, network: Network, **settings: Any) -> Any:
    options = {"steps": 3, "smallest": 32, "precision": "fp32", **settings}
    return style_transfer(content, styles, network=network, **options)


def test_a_picture_in_its_own_style_stays(network: Network) -> None:
    content = picture(48, 64, 1).clamp(0.1, 0.9)
    found = run(content, content, network, smallest=64, preset="gatys")
    torch.testing.assert_close(found, content, rtol=0, atol=1e-5)


def test_the_loss_falls(network: Network) -> None:
    scores: list[float] = []
    run(
        picture(48, 64, 1),
        picture(40, 40, 2),
        network,
        smallest=64,
        steps=12,
        callback=lambda m: scores.append(-float(m.score[0])),
    )
    assert min(scores) < 0.7 * scores[0]


def test_no_share_is_not_there(network: Network) -> None:
    content, one, other = picture(48, 64, 1), picture(40, 40, 2), picture(30, 50, 3)
    assert torch.equal(run(content, [one, other], network, style_shares=[1.0, 0.0]), run(content, one, network))


def test_pictures_do_not_depend_on_each_other(network: Network) -> None:
    contents = picture(48, 64, 1, count=2)
    together = run(contents, picture(40, 40, 2), network)
    alone = torch.cat([run(contents[i : i + 1], picture(40, 40, 2), network) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)
    several = run([contents[:1], picture(33, 70, 5)], picture(40, 40, 2), network)
    assert torch.equal(several[0], alone[:1])
    assert several[1].shape == (1, 3, 33, 70)


def test_colours_of_the_content_are_kept(network: Network) -> None:
    content = 0.3 + 0.4 * picture(48, 64, 1)
    found = run(content, picture(40, 40, 2), network, colour="content")
    chroma = (found - luminance(found)) - (content - luminance(content))
    assert chroma.abs().mean() < 0.02
    for colour in ("luminance", "linear", "histogram"):
        assert run(content, picture(40, 40, 2), network, colour=colour).isfinite().all()


@pytest.mark.parametrize(("h", "w"), [(20, 200), (17, 33), (33, 17)])
def test_odd_sizes(network: Network, h: int, w: int) -> None:
    found = run(picture(h, w, 1), picture(18, 20, 2), network, steps=2)
    assert found.shape == (1, 3, h, w)
    assert found.isfinite().all()


def test_noise_is_that_of_the_seed(network: Network) -> None:
    make = [
        run(picture(32, 32, 1), picture(32, 32, 2), network, start="noise", seed=seed, steps=1) for seed in (0, 0, 1)
    ]
    assert torch.equal(make[0], make[1])
    assert not torch.equal(make[0], make[2])


def test_it_stops_when_asked(network: Network) -> None:
    seen: list[int] = []
    run(picture(48, 64, 1), picture(40, 40, 2), network, steps=50, seconds=0.0, callback=lambda m: seen.append(m.step))
    assert seen == [1]
    seen.clear()
    run(
        picture(32, 32, 1),
        picture(32, 32, 2),
        network,
        steps=50,
        loss=1e9,
        callback=lambda m: seen.append(m.step),
    )
    assert len(seen) == 1


def test_sizes_double_up_to_the_last() -> None:
    assert plan((512, 256), 50, 128) == [((128, 64), 100), ((256, 128), 100), ((512, 256), 50)]
    assert plan((512, 256), 15, 128) == [((128, 64), 60), ((256, 128), 30), ((512, 256), 15)]
    assert plan((256, 256), 300, 128) == [((128, 128), 300), ((256, 256), 300)]
    assert plan((40, 100), 50, 128) == [((40, 100), 50)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"style_shares": [1.0, 1.0]}, "expected one for each"),
        ({"style_shares": [0.0]}, "not all 0"),
        ({"style_scale": 0.0}, "one above 0"),
        ({"steps": 0}, "steps is 0"),
        ({"size": 0}, "size is 0"),
        ({"start": 2.0}, "start is 2.0"),
        ({"preset": "gaty"}, "Did you mean gatys"),
        ({"masks": torch.ones(2, 32, 32)}, "2 masks for 1 styles"),
        ({"masks": torch.zeros(1, 32, 32)}, "empty|nothing|nowhere|no place"),
        ({"masks": torch.ones(1, 32, 80)}, "mask"),
        ({"style_layers": ["stem"]}, "give both"),
    ],
)
def test_what_does_not_fit_is_said(network: Network, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SaccadeError, match=message):
        run(picture(32, 32, 1), picture(32, 32, 2), network, **settings)


@pytest.mark.parametrize(("content", "style"), [((1, 1), (32, 32)), ((32, 32), (5, 5))])
def test_too_small_is_one_sentence(network: Network, content: tuple[int, int], style: tuple[int, int]) -> None:
    with pytest.raises(SaccadeError, match="it is too small for the layers"):
        run(picture(*content, 1), picture(*style, 2), network)


def test_not_a_number_is_refused(network: Network) -> None:
    broken = picture(32, 32, 1)
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(SaccadeError, match="finite"):
        run(broken, picture(32, 32, 2), network)
