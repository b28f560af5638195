"""Recurrent networks and attention from first principles."""

from saccade.recurrent.attend import LocalAttention, Reading, attend
from saccade.recurrent.attention_lstm import attention_lstm, attention_lstm_step, dot_product_attention
from saccade.recurrent.cells import LSTM, RNN, AttentionLSTM, WordEmbedding, from_torch, to_torch
from saccade.recurrent.loss import temporal_softmax_loss
from saccade.recurrent.lstm import lstm, lstm_step
from saccade.recurrent.multihead import MultiHead, causal_mask
from saccade.recurrent.rnn import rnn, rnn_step, rnn_step_backward
from saccade.recurrent.scores import Score, score

__all__ = [
    "LSTM",
    "RNN",
    "AttentionLSTM",
    "LocalAttention",
    "MultiHead",
    "Reading",
    "Score",
    "WordEmbedding",
    "attend",
    "attention_lstm",
    "attention_lstm_step",
    "causal_mask",
    "dot_product_attention",
    "from_torch",
    "lstm",
    "lstm_step",
    "rnn",
    "rnn_step",
    "rnn_step_backward",
    "score",
    "temporal_softmax_loss",
    "to_torch",
]
