"""Captioning: sentences for pictures, with attention that one can see."""

from saccade.caption.captioner import Caption, Captioner, shipped_captioners
from saccade.caption.decode import Decoded, Rules, beam_search, sample
from saccade.caption.decoders import DECODERS
from saccade.caption.draw import attention_tiles, save_animation
from saccade.caption.encoder import features_of
from saccade.caption.evaluate import CaptionReport, CaptionScores, evaluate_captions
from saccade.caption.fit import fit_captioner, make_captioner, train_captioner
from saccade.caption.grounding import Grounding, grounding, measure_grounding
from saccade.caption.java_metrics import java_scores
from saccade.caption.metrics import CiderD, bleu, rouge_l
from saccade.caption.pairs import CaptionSet, load_captions
from saccade.caption.reading import reading
from saccade.caption.recipe import CAPTION_RECIPES, CaptionRecipe, find_caption_recipe
from saccade.caption.saying import saying
from saccade.caption.text import Vocabulary, tokenise

__all__ = [
    "CAPTION_RECIPES",
    "DECODERS",
    "Caption",
    "CaptionRecipe",
    "CaptionReport",
    "CaptionScores",
    "CaptionSet",
    "Captioner",
    "CiderD",
    "Decoded",
    "Grounding",
    "Rules",
    "Vocabulary",
    "attention_tiles",
    "beam_search",
    "bleu",
    "evaluate_captions",
    "features_of",
    "find_caption_recipe",
    "fit_captioner",
    "grounding",
    "java_scores",
    "load_captions",
    "make_captioner",
    "measure_grounding",
    "reading",
    "rouge_l",
    "sample",
    "save_animation",
    "saying",
    "shipped_captioners",
    "tokenise",
    "train_captioner",
]
