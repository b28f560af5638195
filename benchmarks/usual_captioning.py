"""Show, Attend and Tell as the well-known PyTorch repositories write it, on the weights of ours.

Their habits, which are what is measured: the features of the places are projected at every word; every step has its
own embedding, product with the vocabulary and state products, on the sentences that have not ended (sorted by length);
scores of all steps go into one padded tensor; at decoding one picture at a time, its features copied for every
hypothesis and copied again when hypotheses change places, with a Python loop over the hypotheses.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from saccade.caption.decoders import ShowAttendTell
from saccade.caption.text import END, NULL, START, UNK


class UsualShowAttendTell(nn.Module):
    """The same network as a given `ShowAttendTell`, with a copy of its weights, in the usual layers."""

    def __init__(self, ours: ShowAttendTell) -> None:
        super().__init__()
        hidden, inner = ours.hidden_dim, ours.attention_dim
        vocabulary, wordvec = ours.embed.weight.shape
        channels = ours.place.in_features
        self.embed = nn.Embedding(vocabulary, wordvec)
        self.encoder_att, self.decoder_att = nn.Linear(channels, inner), nn.Linear(hidden, inner)
        self.full_att = nn.Linear(inner, 1, bias=False)
        self.init_h, self.init_c = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.f_beta = nn.Linear(hidden, 1)
        self.cell = nn.LSTMCell(wordvec + channels, hidden)
        self.deep_h, self.deep_z = nn.Linear(hidden, wordvec), nn.Linear(channels, wordvec, bias=False)
        self.fc = nn.Linear(wordvec, vocabulary)

        def torchs(rows: Tensor) -> Tensor:  # gates i, f, o, g -> i, f, g, o
            i, f, o, g = rows.chunk(4)
            return torch.cat([i, f, g, o])

        rest = ours.hidden
        with torch.no_grad():
            self.embed.weight.copy_(ours.embed.weight)
            for mine, its in (
                (self.encoder_att, ours.place),
                (self.init_h, ours.init_h),
                (self.init_c, ours.init_c),
                (self.fc, ours.output),
            ):
                mine.load_state_dict(its.state_dict())
            self.decoder_att.weight.copy_(rest.weight[:inner])
            self.decoder_att.bias.copy_(rest.bias[:inner])
            self.full_att.weight.copy_(ours.v[None])
            self.f_beta.weight.copy_(rest.weight[inner : inner + 1])
            self.f_beta.bias.copy_(rest.bias[inner : inner + 1])
            self.cell.weight_ih.copy_(torch.cat([torchs(ours.word.weight), torchs(ours.context.weight)], 1))
            self.cell.bias_ih.copy_(torchs(ours.word.bias))
            self.cell.weight_hh.copy_(torchs(rest.weight[inner + 1 :]))
            self.cell.bias_hh.copy_(torchs(rest.bias[inner + 1 :]))
            self.deep_h.weight.copy_(ours.deep.weight[:, :hidden])
            self.deep_h.bias.copy_(ours.deep.bias)
            self.deep_z.weight.copy_(ours.deep.weight[:, hidden:])

    def step(self, words: Tensor, h: Tensor, c: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words (M,), states (M, H), features (M, P, C) -> scores of the next word (M, V), states."""
        vectors = self.embed(words)
        scores = self.full_att(torch.tanh(self.encoder_att(places) + self.decoder_att(h).unsqueeze(1))).squeeze(2)
        alpha = F.softmax(scores, dim=1)
        context = torch.sigmoid(self.f_beta(h)) * (places * alpha.unsqueeze(2)).sum(dim=1)
        h, c = self.cell(torch.cat([vectors, context], dim=1), (h, c))
        return self.fc(torch.tanh(vectors + self.deep_h(h) + self.deep_z(context))), h, c

    def loss(self, features: Tensor, words: Tensor, lengths: Tensor) -> Tensor:
        """Teacher-forced cross entropy, mean over words. Features (N, C, h, w), words (N, T + 1) with START."""
        lengths, order = lengths.sort(descending=True)
        words, places = words[order], features.flatten(2).transpose(1, 2)[order]
        mean = places.mean(dim=1)
        h, c = torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))
        predictions = torch.zeros(len(words), int(lengths.max()), self.fc.out_features)
        for t in range(int(lengths.max())):
            n = sum(length > t for length in lengths.tolist())
            scores, h, c = self.step(words[:n, t], h[:n], c[:n], places[:n])
            predictions[:n, t] = scores
        scores = pack_padded_sequence(predictions, lengths, batch_first=True).data
        targets = pack_padded_sequence(words[:, 1:], lengths, batch_first=True).data
        return F.cross_entropy(scores, targets)

    @torch.no_grad()
    def beam(self, features: Tensor, *, beam: int, longest: int) -> list[int]:
        """The best sentence of one picture, (1, C, h, w), by the same rules as `saccade.caption.beam_search`."""
        flat = features.flatten(2).transpose(1, 2)
        mean = flat.mean(dim=1)
        places, h, c = flat, torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))
        words, totals = torch.tensor([START]), torch.zeros(1)
        sentences: list[list[int]] = [[]]
        finished: list[tuple[float, list[int]]] = []
        for _ in range(longest):
            scores, h, c = self.step(words, h, c, places)
            logs = F.log_softmax(scores, dim=1)
            logs[:, [NULL, START, UNK]] = -torch.inf
            values, chosen = (totals[:, None] + logs).view(-1).topk(2 * beam)
            rows: list[int] = []
            following: list[list[int]] = []
            left: list[float] = []
            for place, (value, number) in enumerate(zip(values, chosen, strict=True)):
                row, word = int(number) // scores.shape[1], int(number) % scores.shape[1]
                if word == END:
                    if place < beam:
                        finished.append((float(value), [*sentences[row], END]))
                elif len(rows) < beam:
                    rows.append(row)
                    following.append([*sentences[row], word])
                    left.append(float(value))
            finished = sorted(finished, key=lambda one: -one[0])[:beam]
            if len(finished) == beam and left[0] <= finished[-1][0]:
                break
            sentences, totals = following, torch.tensor(left)
            words = torch.tensor([sentence[-1] for sentence in sentences])
            places = flat.expand(len(rows), -1, -1).clone()
            h, c = h[rows], c[rows]
        return finished[0][1] if finished else sentences[0]
