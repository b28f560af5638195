"""Training a captioner, so that a run killed at any moment and taken up again ends with the same bits (on the CPU)."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.caption.captioner import Captioner, make_encoder
from saccade.caption.encoder import Encoder, features_of, to_float
from saccade.caption.evaluate import best_constant, say_all
from saccade.caption.metrics import CiderD
from saccade.caption.objective import Sentences, likelihood_loss, self_critical_loss
from saccade.caption.pairs import CaptionSet, load_captions
from saccade.caption.recipe import CaptionRecipe
from saccade.caption.text import Vocabulary, tokenise
from saccade.data.scenes import holds
from saccade.engine.checkpoint import load_checkpoint, save_checkpoint
from saccade.engine.guards import random_state
from saccade.engine.precision import Precision, choose_precision
from saccade.engine.run import Run
from saccade.engine.seeding import generator, mix
from saccade.errors import SaccadeError
from saccade.train.schedule import factor

Callback = Callable[[dict[str, Any]], None]
Progress = Callable[[int, int], None]


def make_captioner(
    recipe: CaptionRecipe, train: CaptionSet, features: Tensor | None, *, encoder: Encoder | None = None
) -> Captioner:
    """The untrained captioner of a recipe: vocabulary and spread of the features from the training pictures."""
    encoder = encoder or make_encoder(recipe.network, layer=recipe.layer, size=recipe.size)
    vocabulary = Vocabulary.build(
        (caption for captions in train.captions for caption in captions), minimum=recipe.minimum
    )
    mean = std = None
    if recipe.normalise and features is not None:
        some = features[train.rows[:: max(len(train) // 2000, 1)]].float()
        places = some.transpose(0, 1).flatten(1)
        mean, std = places.mean(1), places.std(1).clamp_min(1e-3 * float(places.std()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(recipe.seed, 7))
        decoder = recipe.decoder, recipe.options
        return Captioner(encoder, vocabulary, decoder, mean=mean, std=std, longest=recipe.longest)


class CaptionFit:
    """A run under way: the captioner, its optimiser, and where it stands."""

    def __init__(self, captioner: Captioner, train: CaptionSet, features: Tensor | None, recipe: CaptionRecipe) -> None:
        if len(train) < recipe.batch_size:
            given = f"{train.name} has {len(train)} training pictures"
            raise SaccadeError(f"Training a captioner: {given}, fewer than one batch of {recipe.batch_size}.")
        self.captioner, self.train, self.features, self.recipe = captioner, train, features, recipe
        self.device = captioner.mean.device
        self.precision = choose_precision(self.device, recipe.precision)
        captioner.requires_grad_(False)
        groups: list[dict[str, Any]] = [{"params": list(captioner.decoder.parameters()), "lr": recipe.lr}]
        if recipe.fine_tune:
            groups.append({"params": list(captioner.network.parameters()), "lr": recipe.lr * recipe.fine_tune})
        for group in groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
            group["peak"] = group["lr"]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        self.encoded = self._encode(train)
        self.per_epoch = len(train) // recipe.batch_size
        self.likely = self.per_epoch * (recipe.epochs - recipe.reinforce)  # steps before the self-critical ones
        self.repeated = self.likely - self.per_epoch * recipe.fresh  # steps before those on fresh scenes
        self.drawn = 0  # epoch for which the scenes at hand were drawn
        self.steps = self.per_epoch * recipe.epochs
        self.reward: CiderD | None = None
        self.step, self.best, self.best_epoch, self.best_cider = 0, -1.0, -1, -1.0
        self.sums: dict[str, list[float]] = {}
        self.history: list[dict[str, Any]] = []
        self.seconds, self._clock = 0.0, time.monotonic()

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {
            "captioner": self.captioner.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.name,
            "step": self.step,
            "steps": self.steps,
            "best": (self.best, self.best_epoch, self.best_cider),
            "sums": self.sums,
            "history": self.history,
            "seconds": self.read_clock(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises `SaccadeError` if it belongs to another run."""
        try:
            if state["steps"] != self.steps:
                raise ValueError(f"it is of a run of {state['steps']} steps, this one has {self.steps}")
            self.captioner.load_state_dict(state["captioner"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.sums, self.history = state["step"], state["sums"], state["history"]
            self.best, self.best_epoch, self.best_cider = (*state["best"], state["best"][0])[:3]
            if state["precision"] != self.precision.name:
                self.precision = Precision(state["precision"], "as the run began")
            self.seconds, self._clock = state["seconds"], time.monotonic()
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise SaccadeError(
                f"The checkpoint does not fit this run ({str(error).splitlines()[0]}); the data or the version of "
                "Saccade may have changed since. Choose another folder for the run, or delete that one."
            ) from error

    def rate(self) -> float:
        """Share of the peak learning rate at this step."""
        recipe = self.recipe
        if self.step >= self.likely:
            return recipe.reinforce_lr / recipe.lr
        if self.step >= self.repeated:
            peak = recipe.fresh_lr / recipe.lr
            return peak * factor(self.step - self.repeated, self.likely - self.repeated, recipe)
        return factor(self.step, self.repeated, recipe)

    def advance(self) -> None:
        """One step: a batch of pictures with their sentences."""
        recipe, epoch = self.recipe, self.step // self.per_epoch
        if recipe.fresh and self.step >= self.repeated and epoch != self.drawn:
            self._draw_fresh(epoch)
        order = torch.randperm(len(self.train), generator=generator(recipe.seed, epoch))
        place = self.step % self.per_epoch * recipe.batch_size
        pictures = order[place : place + recipe.batch_size]
        torch.manual_seed(mix(recipe.seed, self.step, 1))  # for dropout and drawn words
        self.captioner.train()
        if not recipe.fine_tune:
            self.captioner.network.eval()
        with self.precision.autocast(self.device):
            memory = self._remember(pictures)
            if self.step < self.likely:
                loss = self._likelihood(memory, pictures.tolist(), epoch)
                self._note("loss", float(loss.detach()))
            else:
                loss = self._self_critical(memory, pictures.tolist())
        if not torch.isfinite(loss):
            raise SaccadeError(
                f"Training diverged: the loss at step {self.step} is {float(loss.detach())}. Start again with a lower "
                "learning rate (--lr) or a limit on the gradient (--clip 1)."
            )
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip:
            trained = [p for group in self.optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
        self.optimiser.step()
        self.step += 1

    def _encode(self, train: CaptionSet) -> list[list[list[int]]]:
        encode, longest = self.captioner.vocabulary.encode, self.recipe.longest - 1
        return [[encode(text, longest=longest) for text in texts] for texts in train.captions]

    def _draw_fresh(self, epoch: int) -> None:
        """Scenes that no other epoch sees, as many and as large as those before, with their complete sentences."""
        size, seed = self.train.pictures.shape[1], mix(self.recipe.seed, epoch)
        drawn = load_captions(self.recipe.data, split="train", size=size, seed=seed, count=len(self.train))
        self.train = replace(drawn, captions=tuple(captions[:1] for captions in drawn.captions))
        self.encoded, self.drawn = self._encode(self.train), epoch

    def _remember(self, pictures: Tensor) -> tuple[Tensor, ...]:
        rows = self.train.rows[pictures]
        if self.features is not None:
            return self.captioner.remember(self.features[rows].to(self.device))
        seen = to_float(self.train.pictures[rows]).to(self.device)
        if self.recipe.mirror:
            turned = torch.rand(len(rows)).to(self.device) < 0.5
            seen = torch.where(turned[:, None, None, None], seen.flip(3), seen)
        memory: tuple[Tensor, ...] = self.captioner(seen)
        return memory

    def _likelihood(self, memory: tuple[Tensor, ...], pictures: list[int], epoch: int) -> Tensor:
        recipe = self.recipe
        encoded, owner = [], []
        for row, picture in enumerate(pictures):
            texts = self.encoded[picture]
            first = mix(recipe.seed, epoch, picture) % len(texts)
            chosen = [texts[(first + k) % len(texts)] for k in range(min(recipe.captions, len(texts)))]
            encoded += chosen
            owner += [row] * len(chosen)
        last = max(recipe.epochs - recipe.reinforce - 1, 1)
        return likelihood_loss(
            self.captioner.decoder,
            memory,
            Sentences.of(encoded, owner, device=self.device),
            per=recipe.loss,
            label_smoothing=recipe.label_smoothing,
            own_words=recipe.scheduled_sampling * epoch / last,
            attention_term=recipe.doubly_stochastic,
        )

    def _self_critical(self, memory: tuple[Tensor, ...], pictures: list[int]) -> Tensor:
        if self.reward is None:
            self.reward = CiderD([[tokenise(text) for text in texts] for texts in self.train.captions])
        loss, reward, greedy = self_critical_loss(
            self.captioner.decoder,
            memory,
            self.reward,
            pictures,
            self.captioner.vocabulary,
            samples=self.recipe.samples,
            longest=self.recipe.longest,
        )
        self._note("reward", reward)
        self._note("greedy_reward", greedy)
        return loss

    def _note(self, key: str, value: float) -> None:
        self.sums.setdefault(key, []).append(value)

    def row(self) -> dict[str, Any]:
        """Measurements since the last row."""
        means = {key: sum(values) / len(values) for key, values in self.sums.items()}
        self.sums = {}
        epoch = (self.step - 1) // self.per_epoch
        seconds = round(self.read_clock(), 1)
        return {"step": self.step, "steps": self.steps, "epoch": epoch, **means, "seconds": seconds}

    def read_clock(self) -> float:
        """Seconds of training so far, over all sittings."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return self.seconds


def fit_captioner(
    captioner: Captioner,
    train: CaptionSet,
    recipe: CaptionRecipe,
    *,
    features: Tensor | None = None,
    val: CaptionSet | None = None,
    val_features: Tensor | None = None,
    run: Run | None = None,
    callback: Callback | None = None,
    log_every: int = 50,
    save_every: float = 60.0,
) -> list[dict[str, Any]]:
    """Train `captioner` on `train` in place by `recipe`; gives back its measurements.

    features: of all pictures behind `train` (see `features_of`), where the encoder is left as it is. val: captioned
    greedily after each epoch; its CIDEr, of generated scenes the share of captions that are wholly true, decides which
    weights are kept (`best.safetensors`), and which the captioner has at the end. run: the folder for measurements and
    checkpoints; an unfinished run in it is continued.
    """
    if recipe.fine_tune and features is not None:
        raise SaccadeError(
            "Training a captioner: features of a fixed encoder were given with fine_tune; leave one out."
        )
    with random_state():
        state = CaptionFit(captioner, train, features, recipe)
        if run is not None and run.resumable:
            state.restore(load_checkpoint(run.checkpoint_path, device=state.device))
        if run is not None:
            run.rewind(state.step)
        saved = time.monotonic()
        best: dict[str, Tensor] | None = None
        while state.step < state.steps and not _out_of_patience(state):
            state.advance()
            ended = state.step % state.per_epoch == 0
            if not ended and state.step % log_every:
                continue
            row = state.row()
            if ended and val is not None:
                measured = _validate(state, val, val_features)
                row |= measured
                judged = measured["val_true" if val.scenes else "val_cider"]
                if judged > state.best:
                    state.best, state.best_epoch, state.best_cider = judged, row["epoch"], measured["val_cider"]
                    best = {key: value.clone() for key, value in captioner.state_dict().items()}
                    if run is not None:
                        captioner.save(run.folder / "best.safetensors", meta=_meta(state, recipe))
            state.history.append(row)
            if run is not None:
                run.log(row)
                if ended or time.monotonic() - saved > save_every:
                    save_checkpoint(run.checkpoint_path, state.state())
                    saved = time.monotonic()
            if callback is not None:
                callback(row)
        if best is None and run is not None and (run.folder / "best.safetensors").exists():
            best = Captioner.load(run.folder / "best.safetensors").state_dict()
        if best is not None:
            captioner.load_state_dict(best)
        captioner.meta |= _meta(state, recipe)
        captioner.eval().requires_grad_(True)
        return state.history


def _meta(state: CaptionFit, recipe: CaptionRecipe) -> dict[str, Any]:
    return {
        "recipe": recipe.as_dict(),
        "val_cider": state.best_cider,
        "epoch": state.best_epoch,
        "seconds": state.seconds,
    }


def _validate(state: CaptionFit, val: CaptionSet, features: Tensor | None) -> dict[str, float]:
    """CIDEr-D of greedy captions, and the share of them that are wholly true where that is known."""
    captioner = state.captioner
    if state.recipe.fine_tune or features is None:
        pooled = captioner.decoder.wants == "pooled"
        features = features_of(captioner.encoder, val, pooled=pooled, keep=False)
    said = say_all(captioner, features[val.rows], beam=1, length_penalty=0.0, block=0)
    references = [[tokenise(caption) for caption in captions] for captions in val.captions]
    measured = {"val_cider": CiderD(references).score([tokenise(sentence) for sentence in said])}
    if val.scenes:
        measured["val_true"] = sum(map(holds, said, val.scenes)) / len(said)
    return measured


def _out_of_patience(state: CaptionFit) -> bool:
    patience = state.recipe.patience
    return bool(patience) and state.step // state.per_epoch - 1 - state.best_epoch >= patience and state.best_epoch >= 0


def train_captioner(
    recipe: CaptionRecipe,
    *,
    folder: str | Path,
    skip_bad: bool = False,
    callback: Callback | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    progress: Progress | None = None,
    tensorboard: bool = False,
) -> Captioner:
    """Run a recipe: read the captions, compute the features, train, save all in `folder` (`best.safetensors` is the
    captioner). A folder with an unfinished run of the same recipe is taken up where it stopped."""
    run = Run(folder, recipe.as_dict(), tensorboard=tensorboard)
    train, val = (
        load_captions(
            recipe.data,
            split=split,
            size=recipe.stored,
            fit=recipe.fit,
            seed=recipe.seed,
            count=count or None,
            skip_bad=skip_bad,
            progress=progress,
        )
        for split, count in (("train", recipe.count), ("val", recipe.val))
    )
    for problem in train.skipped[:5]:
        say(f"Left out: {problem}")
    if len(train.skipped) > 5:
        say(f"Left out: {len(train.skipped) - 5} more.")
    encoder = make_encoder(recipe.network, layer=recipe.layer, size=recipe.size)
    pooled = recipe.decoder in ("rnn", "lstm")
    features = val_features = None
    if not recipe.fine_tune:
        say(f"Features of {encoder.network.name}, layer {encoder.layer}, at {encoder.size} pixels, computed once.")
        features, val_features = (features_of(encoder, part, pooled=pooled, progress=progress) for part in (train, val))
    captioner = make_captioner(recipe, train, features, encoder=encoder)
    captioner.meta["constant"] = best_constant(train, val)
    captions = sum(map(len, train.captions))
    say(f"{len(train):,} pictures with {captions:,} captions to train on, {len(val):,} to validate.")
    parameters = sum(p.numel() for p in captioner.decoder.parameters())
    say(f"{len(captioner.vocabulary):,} words; {parameters:,} parameters in the decoder ({recipe.decoder}).")
    fit_captioner(
        captioner,
        train,
        recipe,
        features=features,
        val=val,
        val_features=val_features,
        run=run,
        callback=callback,
    )
    run.close()
    return captioner
