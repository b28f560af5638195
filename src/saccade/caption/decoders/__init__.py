"""The decoders, by name."""

from collections.abc import Callable

from saccade.caption.decoders.base import Decoder
from saccade.caption.decoders.course import AttentionDecoder, LSTMDecoder, RNNDecoder
from saccade.caption.decoders.show_attend_tell import ShowAttendTell
from saccade.caption.decoders.transformer import TransformerDecoder

DECODERS: dict[str, Callable[..., Decoder]] = {
    "rnn": RNNDecoder,
    "lstm": LSTMDecoder,
    "attention": AttentionDecoder,
    "show-attend-tell": ShowAttendTell,
    "transformer": TransformerDecoder,
}
