"""Photographs that are there on a fresh machine, without a network: those inside scikit-image's wheel."""

from importlib.util import find_spec
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from saccade.errors import SaccadeError
from saccade.pictures.io import read

# name: file in skimage/data. Left out are its drawings and microscopy, and what it downloads with pooch on
# first use (skimage.data.eagle, skin, lily, kidney, brain, ...): a sample must not need a network.
_FILES = {
    "astronaut": "astronaut.png",  # 512 x 512 (width x height), Eileen Collins; NASA
    "brick": "brick.png",  # 512 x 512, grey texture
    "camera": "camera.png",  # 512 x 512, grey, a photographer
    "chelsea": "chelsea.png",  # 451 x 300, a tabby cat
    "coffee": "coffee.png",  # 600 x 400, an espresso cup
    "coins": "coins.png",  # 384 x 303, grey, Greek coins
    "grass": "grass.png",  # 512 x 512, grey texture
    "gravel": "gravel.png",  # 512 x 512, grey texture
    "hubble": "hubble_deep_field.jpg",  # 1000 x 872, galaxies; NASA
    "moon": "moon.png",  # 512 x 512, grey, the surface of the Moon
    "motorcycle": "motorcycle_left.png",  # 741 x 500, in a garage (Middlebury stereo)
    "retina": "retina.jpg",  # 1411 x 1411, the back of an eye
    "rocket": "rocket.jpg",  # 640 x 427, Falcon 9 at night; SpaceX
}


def sample_names() -> tuple[str, ...]:
    """The names that `sample` takes, in alphabetical order."""
    return tuple(_FILES)


def sample(name: str) -> Float[Tensor, "3 h w"]:
    """A sample photograph, float32 (3, H, W) in [0, 1], of its own size (300 to 1411 pixels a side).

    All come with scikit-image (van der Walt et al. 2014), which states their sources and free licences in
    `skimage.data`. Raises `SaccadeError` for another name.
    """
    if name not in _FILES:
        raise SaccadeError(
            f"Could not find the sample {name!r}, expected one of {', '.join(_FILES)}. Other pictures of "
            "scikit-image need a download: fetch them with skimage.data and write them to a file."
        )
    return read(_folder() / _FILES[name])


def _folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise SaccadeError("Could not find the samples: scikit-image is not installed. Run pip install scikit-image.")
    return Path(spec.submodule_search_locations[0]) / "data"
