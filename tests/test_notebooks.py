"""The notebooks run from top to bottom, in small; their stored outputs are whole; their checks can fail.

A notebook is made small by replacing settings in its text. Each replacement must find its text, so that a changed
notebook cannot quietly escape being shrunk.
"""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

SMALL: dict[str, dict[str, str]] = {  # notebook: {text: what stands there in the test}
    "network_visualization.ipynb": {
        "ITERATIONS = 100": "ITERATIONS = 8",
        "SEEK = 40": "SEEK = 3",
        "STYLE_STEPS = 40": "STYLE_STEPS = 2",
        "else 4_096  #": "else 512  #",
        "else 6  #": "else 2  #",
        "else 32  #": "else 10  #",
    },
    "pytorch_autograd_and_nn.ipynb": {
        "else 8_192  #": "else 128  #",
        "else 4  #": "else 2  #",
        "else 1_000  #": "else 16  #",
        "HELD_OUT = 1_000": "HELD_OUT = 32",
        'for name in ("cifar10", "cifar10-jpeg", "scenes")': 'for name in ("scenes",)',
    },
    "rnn_lstm_attention_captioning.ipynb": {
        "else 5_000  #": "else 60  #",
        "else 300  #": "else 6  #",
        "else 10  #": "else 1  #",
        "else 100  #": "else 30  #",
        "else 256  #": "else 24  #",
        "else 128  #": "else 12  #",
        "FIFTY_EPOCHS = 80": "FIFTY_EPOCHS = 3",
    },
    "style_transfer.ipynb": {"else 224  #": "else 72  #", "else 120  #": "else 9  #", "smallest=96": "smallest=48"},
}

# Answers with a mistake, for each exercise of each notebook: (exercise, right, wrong).
MISTAKES: dict[str, list[tuple[str, str, str]]] = {
    "network_visualization.ipynb": [
        ("exercise-1", "gradient.abs().amax(1)", "gradient.amax(1)"),
        ("exercise-1", "gradient.abs().amax(1)", "gradient.amax(1).abs()"),
        ("exercise-1", "gradient.abs().amax(1)", "gradient.abs().mean(1)"),
        ("exercise-1", "gradient.abs().amax(1)", "gradient.abs().sum(1)"),
        ("exercise-1", "model(X)", "model(X).softmax(1)"),
        ("exercise-1", "model(X)", "model(X).log_softmax(1)"),
        ("exercise-1", "y[:, None]", "y.flip(0)[:, None]"),
        ("exercise-1", "y[:, None]", "y[:1, None].expand(len(y), 1)"),
        ("exercise-1", "scores.sum()", "scores.mean()"),
        ("exercise-1", "model(X).gather(1, y[:, None])", "model(X).amax(1)"),
        ("exercise-2", " / gradient.norm()", ""),
        ("exercise-2", "gradient.norm()", "gradient.norm() ** 2"),
        ("exercise-2", "gradient.norm()", "gradient.norm(dim=1, keepdim=True)"),
        ("exercise-2", "gradient.norm()", "gradient.abs().sum()"),
        ("exercise-2", "gradient / gradient.norm()", "gradient.sign()"),
        ("exercise-2", "X_adv + learning_rate", "X_adv - learning_rate"),
        ("exercise-2", "learning_rate * gradient", "gradient"),
        ("exercise-2", "grad(scores[0, target_y]", "grad(scores.softmax(1)[0, target_y]"),
        ("exercise-2", "grad(scores[0, target_y]", "grad(scores.max()"),
        ("exercise-2", "grad(scores[0, target_y]", "grad(-F.cross_entropy(scores, torch.tensor([target_y]))"),
        ("exercise-2", "if scores.argmax(1).item() == target_y:", "if False:"),
        ("exercise-2", "== target_y:\n            break", "== target_y and iteration:\n            break"),
        ("exercise-2", "range(max_iter)", "range(100)"),
        ("exercise-2", "range(max_iter)", "range(max_iter + 1)"),
        ("exercise-2", "range(max_iter)", "range(10)"),
        ("exercise-2", "if not gradient.any():", "if False:"),
        ("exercise-2", "return X_adv.detach()", "return X_adv.detach().clamp(0, 1)"),
        ("exercise-3", " - l2_reg * ((img - 0.5) ** 2).sum()", ""),
        ("exercise-3", "l2_reg * ((img - 0.5) ** 2).sum()", "l2_reg * ((img - 0.5) ** 2).sum() / 2"),
        ("exercise-3", "((img - 0.5) ** 2).sum()", "(img - 0.5).norm()"),
        ("exercise-3", "((img - 0.5) ** 2).sum()", "((img - 0.5) ** 2).mean()"),
        ("exercise-3", "((img - 0.5) ** 2).sum()", "(img**2).sum()"),
        ("exercise-3", "- l2_reg", "+ l2_reg"),
        ("exercise-3", "model(img)[0, target_y]", "model(img).softmax(1)[0, target_y]"),
        ("exercise-3", "model(img)[0, target_y]", "model(img).max()"),
        ("exercise-3", "img + learning_rate", "img - learning_rate"),
        ("exercise-3", "learning_rate * gradient", "learning_rate * gradient / gradient.norm()"),
        ("exercise-3", "learning_rate * gradient)", "gradient)"),
        ("exercise-3", "return (img + learning_rate * gradient).detach()",
         "return img.detach().add_(learning_rate * gradient)"),
    ],
    "pytorch_autograd_and_nn.ipynb": [
        ("exercise-1", "/ (2 * h)", "/ h"),
        ("exercise-1", "f(x - step)", "f(x)"),
        ("exercise-1", "torch.zeros_like(x)\n    for", "torch.zeros(x.numel()).to(x)\n    for"),
        ("exercise-2", "F.relu(F.conv2d(x, conv_w2, conv_b2, padding=1))", "F.conv2d(x, conv_w2, conv_b2, padding=1)"),
        ("exercise-2", "F.linear(x.flatten(1), fc_w, fc_b)", "F.linear(x.flatten(1), fc_w, fc_b).softmax(1)"),
        ("exercise-2", "x = F.relu(F.conv2d(x, conv_w1", "x = F.relu(F.conv2d(x.detach(), conv_w1"),
        ("exercise-3", "(2 / fan_in) ** 0.5", "(1 / fan_in) ** 0.5"),
        ("exercise-3", "shape[1:]", "shape[:1]"),
        ("exercise-3", "torch.zeros(", "torch.ones("),
        ("exercise-3", "return [p.requires_grad_() for p in params]", "return params"),
        ("exercise-4", "x = F.relu(self.conv2(x))", "x = self.conv2(x)"),
        ("exercise-4", "kernel_size=5, padding=2", "kernel_size=3, padding=1"),
        ("exercise-4", "nn.init.zeros_(layer.bias)", "nn.init.ones_(layer.bias)"),
        ("exercise-4", "nn.init.kaiming_normal_(layer.weight)", "pass"),
        ("exercise-5", "relu2=nn.ReLU()", "relu2=nn.Identity()"),
        ("exercise-5", "kernel_size=3, padding=1", "kernel_size=3, padding=1, bias=False"),
        ("exercise-6", "self.block(x) + self.shortcut(x)", "self.block(x)"),
        ("exercise-6", "nn.Identity()", "nn.Conv2d(Cin, Cout, 1)"),
        ("exercise-6", "nn.Identity()", "nn.ReLU()"),
        ("exercise-6", "nn.Conv2d(Cin, Cout, 1, stride=2)", "nn.AvgPool2d(2)"),
        ("exercise-7", "middle = Cout // 4", "middle = Cout // 2"),
        ("exercise-7", "nn.BatchNorm2d(middle),\n            nn.ReLU(),\n            nn.Conv2d(middle, Cout, 1)",
         "nn.BatchNorm2d(middle),\n            nn.Conv2d(middle, Cout, 1)"),
    ],
    "rnn_lstm_attention_captioning.ipynb": [
        ("exercise-1", "x @ wx + prev_h @ wh + b", "x @ wx + prev_h @ wh"),
        ("exercise-1", "prev_h @ wh", "prev_h @ wh.T"),
        ("exercise-1", "torch.tanh(", "torch.sigmoid("),
        ("exercise-2", "dnext_h * (1 - next_h**2)", "dnext_h * (1 - next_h)"),
        ("exercise-2", "da @ wh.T, x.T", "da @ wh, x.T"),
        ("exercise-2", "prev_h.T @ da", "next_h.T @ da"),
        ("exercise-2", "da.sum(0)", "da.mean(0)"),
        ("exercise-3", "rnn_step_forward(x[:, t], h, wx", "rnn_step_forward(x[:, t], h0, wx"),
        ("exercise-3", "torch.stack(states, 1)", "torch.stack(states)"),
        ("exercise-3", "        caches.append(cache)", "    caches.append(cache)"),
        ("exercise-4", "dh[:, t] + carried", "dh[:, t]"),
        ("exercise-4", "torch.stack(dxs[::-1], 1)", "torch.stack(dxs, 1)"),
        ("exercise-4", "sum(parts) for", "parts[0] for"),
        ("exercise-5", " / len(labels)", " / labels.numel()"),
        ("exercise-5", 'reduction="sum"', 'reduction="mean"'),
        ("exercise-5", "ignore_index=ignore_index, ", ""),
        ("exercise-6", "numbers[:, :-1], numbers[:, 1:]", "numbers[:, :-1], numbers[:, :-1]"),
        ("exercise-6", "h0 = decoder.project(features)", "h0 = decoder.project(features) * 0"),
        ("exercise-6", "labels, NULL)", "labels, START)"),
        ("exercise-7", "h, _ = rnn_step_forward", "_, _ = rnn_step_forward"),
        ("exercise-7", "        word = decoder", "        first = decoder"),
        ("exercise-7", "argmax(1)", "argmin(1)"),
        ("exercise-7", "torch.full((len(features),), START)", "torch.full((len(features),), NULL)"),
        ("exercise-8", "i, f, o, g = (", "i, f, g, o = ("),
        ("exercise-8", "next_c.tanh(), next_c", "next_c, next_c"),
        ("exercise-8", "f.sigmoid() * c", "c"),
        ("exercise-9", "h0, torch.zeros_like(h0), []", "h0, h0, []"),
        ("exercise-9", "h, c = lstm_step(x[:, t], h, c", "h, _ = lstm_step(x[:, t], h, c"),
        ("exercise-9", "states.append(h)", "states.append(c)"),
        ("exercise-10", " / h.shape[1] ** 0.5", ""),
        ("exercise-10", "h.shape[1] ** 0.5", "places.shape[2] ** 0.5"),
        ("exercise-10", "scores.softmax(1)", "scores.sigmoid()"),
        ("exercise-10", "scores.softmax(1)", "scores.softmax(0)"),
        ("exercise-11", "h = c = grid.mean((2, 3))", "h, c = grid.mean((2, 3)), 0 * grid.mean((2, 3))"),
        ("exercise-11", "dot_product_attention(h, grid)", "dot_product_attention(grid.mean((2, 3)), grid)"),
        ("exercise-11", "torch.cat([x[:, t], read], 1)", "torch.cat([x[:, t], read.detach()], 1)"),
    ],
    "style_transfer.ipynb": [
        ("exercise-1", ".square().sum()", ".square().mean()"),
        ("exercise-1", ".square().sum()", ".abs().sum()"),
        ("exercise-1", "content_weight * (", "0.5 * content_weight * ("),
        ("exercise-1", "content_weight * (", "("),
        ("exercise-2", "/ (c * h * w)", "/ (h * w)"),
        ("exercise-2", "if normalise else gram", "if not normalise else gram"),
        ("exercise-2", "flat @ flat.transpose(1, 2)", "flat.transpose(1, 2) @ flat"),
        ("exercise-2", "features.reshape(n, c, h * w)", "features.transpose(1, 2).reshape(n, c, h * w)"),
        ("exercise-3", "weight * (", "("),
        ("exercise-3", "gram_matrix(feats[layer])", "gram_matrix(feats[layer], False)"),
        ("exercise-3", "feats[layer]", "feats[0]"),
        ("exercise-3", "loss + weight", "weight"),
        ("exercise-3", ".square().sum()", ".square().mean()"),
        ("exercise-4", "across.square().sum()", "0"),
        ("exercise-4", "down.square().sum()", "down.abs().sum()"),
        ("exercise-4", "img[:, :, 1:] - img[:, :, :-1]", "img[:, :, 2:] - img[:, :, :-2]"),
        ("exercise-4", "tv_weight * (", "("),
        ("exercise-5", "masks[:, :, None]", "masks[:, :, None].sqrt()"),
        ("exercise-5", "/ (c * h * w)", "/ (c * masks.sum((2, 3)))[:, :, None, None]"),
        ("exercise-5", "if normalise else gram", "if not normalise else gram"),
        ("exercise-6", "content_masks[layer]", "content_masks[layer].flip(1)"),
        ("exercise-6", "weight * (", "("),
        ("exercise-6", ".square().sum()", ".square().mean()"),
    ],
}  # fmt: skip


def shrunk(path: Path) -> NotebookNode:
    """A notebook with the settings of the test."""
    notebook = nbformat.read(path, as_version=4)
    for old, new in SMALL[path.name].items():
        found = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
        assert found, f"{path.name} no longer holds {old!r}: adapt the replacements of this test"
        for cell in found:
            cell.source = cell.source.replace(old, new)
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def kinds(cell: NotebookNode) -> set[str]:
    """What a cell gave out: "stdout", "image/png", ..."""
    given: set[str] = set()
    for output in cell.outputs:
        given |= {output.name} if output.output_type == "stream" else set(output.get("data", {"error": ""}))
    return given


def pictures(cell: NotebookNode) -> int:
    return sum(bool({"image/png", "image/jpeg"} & set(output.get("data", {}))) for output in cell.outputs)


def test_every_notebook_is_tested() -> None:
    assert [path.name for path in NOTEBOOKS] == sorted(SMALL) == sorted(MISTAKES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_gives_what_is_stored(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SACCADE_ARCHIVES", raising=False)
    notebook = shrunk(path)
    first, last = code_cells(notebook)[0], code_cells(notebook)[-1]
    first.source = f"import warnings\n\nwarnings.simplefilter('error')\n{first.source}"
    last.source += "\nwarnings.resetwarnings()"  # the kernel gives warnings of its own when it shuts down
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()

    stored = code_cells(nbformat.read(path, as_version=4))
    for mine, kept in zip(code_cells(notebook), stored, strict=True):
        assert "stderr" not in kinds(mine), mine.outputs
        assert kinds(kept) == kinds(mine), f"stored outputs differ from those of a run:\n{kept.source}"
        assert pictures(kept) == pictures(mine)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_whole_and_tell_nothing_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    assert not {"stderr", "error"} & set().union(*map(kinds, cells))
    assert sum(map(pictures, cells)) >= 3
    text = json.dumps([[{**o, "data": _without_pictures(o)} for o in cell.outputs] for cell in cells])
    found = re.search(r"/(home|root|work|tmp|usr|mnt|Users|var|opt)/|[A-Z]:\\\\", text)
    assert not found, text[max(0, found.start() - 60) : found.end() + 60]
    assert path.stat().st_size < 2_000_000


def _without_pictures(output: NotebookNode) -> dict[str, Any]:
    return {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checks_of_the_exercises_refuse_mistakes(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACCADE_HOME", str(tmp_path))
    monkeypatch.delenv("SACCADE_ARCHIVES", raising=False)
    mistakes = MISTAKES[path.name]
    cells = [cell for cell in code_cells(shrunk(path)) if {"setup", "answer", "check"} & set(tags(cell))]
    names: dict[str, Any] = {"__name__": "exercise"}
    tried = []
    for cell, check in zip(cells, [*cells[1:], cells[-1]], strict=True):
        for exercise, right, wrong in mistakes:
            if exercise in tags(cell) and "answer" in tags(cell):
                assert right in cell.source, f"{exercise} no longer holds {right!r}: adapt this test"
                assert {exercise, "check"} <= set(tags(check))
                changed = dict(names)
                exec(cell.source.replace(right, wrong), changed)
                with pytest.raises((AssertionError, RuntimeError)):
                    exec(check.source, changed)
                tried.append(exercise)
        exec(cell.source, names)
    assert len(tried) == len(mistakes)
    assert {tag for cell in cells for tag in tags(cell) if tag.startswith("exercise")} == set(tried)
