"""Captioning: sentences for pictures, with attention that one can see."""

from saccade.caption.captioner import Caption, Captioner
from saccade.caption.decode import Decoded, Rules, beam_search, sample
from saccade.caption.decoders import DECODERS
from saccade.caption.draw import attention_tiles, save_animation
from saccade.caption.evaluate import CaptionReport, CaptionScores, evaluate_captions
from saccade.caption.fit import fit_captioner, make_captioner, train_captioner
from saccade.caption.metrics import CiderD, bleu, rouge_l
from saccade.caption.pairs import CaptionSet, load_captions
from saccade.caption.recipe import CAPTION_RECIPES, CaptionRecipe, find_caption_recipe
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
    "Rules",
    "Vocabulary",
    "attention_tiles",
    "beam_search",
    "bleu",
    "evaluate_captions",
    "find_caption_recipe",
    "fit_captioner",
    "load_captions",
    "make_captioner",
    "rouge_l",
    "sample",
    "save_animation",
    "tokenise",
    "train_captioner",
]
