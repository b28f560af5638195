"""Captioning: sentences for pictures, with attention that one can see."""

from saccade.caption.decode import Decoded, Rules, beam_search, sample
from saccade.caption.decoders import DECODERS
from saccade.caption.metrics import CiderD, bleu, rouge_l
from saccade.caption.text import Vocabulary, tokenise

__all__ = [
    "DECODERS",
    "CiderD",
    "Decoded",
    "Rules",
    "Vocabulary",
    "beam_search",
    "bleu",
    "rouge_l",
    "sample",
    "tokenise",
]
