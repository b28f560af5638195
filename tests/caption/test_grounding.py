"""Which words name which object of a scene, and how much of the attention lies on it."""

from dataclasses import replace

import pytest
import torch

from saccade.caption import Caption, Captioner, Vocabulary, measure_grounding
from saccade.caption.encoder import Encoder
from saccade.caption.grounding import grounding, named_objects
from saccade.data import draw_scenes
from saccade.data.scene_draw import COLOURS
from saccade.errors import SaccadeError
from saccade.networks import Network, build


def said(sentence):
    return Caption(tuple(sentence.split()), 0.5)


@pytest.fixture(scope="module")
def scene():
    """A small striped cyan triangle right of a large checked cyan triangle on dots; and a yellow diamond."""
    return draw_scenes([2])[0]


def place(scene, **asked):
    [found] = [k for k, each in enumerate(scene.objects) if all(getattr(each, a) == b for a, b in asked.items())]
    return found


def test_words_name_the_only_object_that_fits(scene):
    small, large = place(scene, size="small", texture="striped"), place(scene, size="large")
    diamond = place(scene, shape="diamond")
    full = said("a small striped cyan triangle right of a large checked cyan triangle on a dotted background")
    assert named_objects(full, scene) == [(k, small) for k in (1, 2, 3, 4)] + [(k, large) for k in (8, 9, 10, 11)]
    assert named_objects(said("a yellow diamond"), scene) == [(1, diamond), (2, diamond)]
    assert named_objects(said("there is one diamond"), scene) == [(3, diamond)]
    assert named_objects(said("a yellow diamond and a cyan triangle"), scene) == [(1, diamond), (2, diamond)]


@pytest.mark.parametrize(
    "sentence",
    [
        "two triangles",  # two objects fit
        "a cyan triangle",
        "a shape",
        "a red diamond",  # false
        "diamond diamond diamond",  # no sentence
    ],
)
def test_other_words_name_none(sentence, scene):
    assert named_objects(said(sentence), scene) == []


def test_shares_of_known_maps(scene):
    k = place(scene, size="large")
    mask = scene.masks[k].float()
    on_it = mask / mask.sum()
    assert grounding(on_it, scene.masks[k]) == pytest.approx(1, abs=1e-5)
    assert grounding(torch.full((64, 64), 1 / 64**2), scene.masks[k]) == pytest.approx(float(mask.mean()), abs=1e-6)


class Oracle(Captioner):
    """Says of each scene a sentence about its main object, and looks exactly there."""

    def __init__(self, scenes, *, attention=True):
        torch.nn.Module.__init__(self)
        self.scenes, self.attention, self.turn = scenes, attention, 0

    def caption(self, pictures, **_):
        answers = []
        for scene in self.scenes[self.turn : self.turn + len(pictures)]:
            thing = scene.objects[scene.main]
            words = ("a", thing.size, thing.colour, thing.shape)
            look = scene.masks[scene.main].float()
            looks = (look / look.sum()).expand(4, *look.shape)
            answers.append([Caption(words, 0.5, looks if self.attention else None)])
        self.turn += len(pictures)
        return answers


def test_measured_over_scenes_beside_what_needs_no_eyes():
    scenes = draw_scenes(range(120))
    pictures = [torch.zeros(3, 8, 8)] * 120
    found = measure_grounding(Oracle(scenes), pictures, scenes)
    assert found.attention == pytest.approx(1, abs=1e-5)
    areas = [
        float(scene.masks[scene.main].float().mean())
        for scene in scenes
        if named_objects(Oracle([scene]).caption([torch.zeros(3, 8, 8)])[0][0], scene)
    ]
    assert found.words == 3 * len(areas)
    assert found.uniform == pytest.approx(sum(areas) / len(areas), abs=1e-5)
    assert found.uniform < found.centre < 0.9  # objects keep away from the rim
    nobody = [replace(scene, objects=()) for scene in scenes]
    assert measure_grounding(Oracle(scenes), pictures, nobody) is None


def test_a_decoder_without_attention_is_refused():
    scenes = draw_scenes(range(2))
    with pytest.raises(SaccadeError, match="its decoder has no attention"):
        measure_grounding(Oracle(scenes, attention=False), [torch.zeros(3, 8, 8)] * 2, scenes)


def test_a_real_captioner_is_measured():
    torch.manual_seed(0)
    keywords = {"num_classes": 4, "widths": (8, 16), "units": (1, 1)}
    network = Network(build("tinynet", **keywords), input_size=32, architecture=("tinynet", keywords)).eval()
    vocabulary = Vocabulary.build([f"a {colour} shape" for colour in COLOURS], minimum=1)
    options = {"wordvec_dim": 8, "hidden_dim": 16, "attention_dim": 8}
    captioner = Captioner(Encoder.of(network, layer="stage2"), vocabulary, ("show-attend-tell", options), longest=4)
    scenes = draw_scenes(range(30))
    pictures = [scene.picture.permute(2, 0, 1).float() / 255 for scene in scenes]
    found = measure_grounding(captioner, pictures, scenes)
    if found is not None:  # untrained: it looks everywhere
        assert found.attention == pytest.approx(found.uniform, rel=0.5)
