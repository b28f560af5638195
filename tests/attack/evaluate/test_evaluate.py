"""An evaluation: the worst case over attacks, what it counts, and that it goes on after it was stopped."""

import json
import sys
import threading
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from attack.nets import Linear, conv_net, draw, labels_of, linear
from torch import Tensor, nn

from saccade.attack import ATTACKS, linear_attack, pgd
from saccade.attack.apgd import run_apgd
from saccade.attack.autoattack import MODES, autoattack
from saccade.attack.evaluate import SUITES, Evaluation, evaluate, parts
from saccade.attack.evaluate.parts import NEVER
from saccade.attack.losses import cross_entropy
from saccade.attack.square import run_square
from saccade.engine.distributed import World
from saccade.errors import SaccadeError
from saccade.networks import Network

MODULE = sys.modules["saccade.attack.evaluate.evaluate"]  # the package has a function of that name
X = draw(20, 3, 8, 8)
QUICK: dict[str, Any] = {"suite": ["ti-fgsm", "pgd"], "eps": 3 / 255, "curve": False, "checked": 0}


def labelled(network: nn.Module, x: Tensor = X, wrong: int = 3) -> Tensor:
    labels = labels_of(network, x)
    labels[:wrong] = (labels[:wrong] + 1) % 3
    return labels


def same(a: Evaluation, b: Evaluation, *, but: str = "") -> bool:
    """Networks round by the batch, so floats may differ in their last bits."""
    return all(
        torch.allclose(one.double(), two.double(), rtol=1e-9, atol=1e-12)
        if isinstance(one, Tensor) and isinstance(two, Tensor)
        else one == two
        for (key, one), two in zip(vars(a).items(), vars(b).values(), strict=True)
        if key not in ("seconds", "attacks", "checks", "curve", but)
    )


def test_the_worst_of_all_attacks_picture_by_picture() -> None:
    network = conv_net()
    labels = labelled(network)
    found = evaluate(network, X, labels, **QUICK)
    right = labels_of(network, X) == labels
    first = ATTACKS["ti-fgsm"](network, X, labels, eps=3 / 255).success & right
    second = pgd(network, X, labels, eps=3 / 255).success & right & ~first
    assert first.any()
    assert second.any()
    assert torch.equal(found.broken_by == 0, first)
    assert torch.equal(found.broken_by == 1, second)
    assert torch.equal(found.fooled, first | second)
    assert (found.clean.count, found.robust.count) == (17, 17 - int(found.fooled.sum()))
    one, two = found.attacks
    assert (one.attacked, one.broke, one.left.count) == (17, int(first.sum()), 17 - int(first.sum()))
    assert (two.attacked, two.broke, two.left.count) == (one.left.count, int(second.sum()), found.robust.count)
    assert torch.equal(found.right, right)
    assert torch.equal(found.said, labels_of(network, X))


@pytest.fixture(scope="module")
def curved() -> Evaluation:
    return evaluate(conv_net(), X[:10], labelled(conv_net())[:10], **QUICK | {"curve": True})


def test_what_is_kept_fools_within_the_budget(curved: Evaluation) -> None:
    network, found, x = conv_net(), curved, X[:10]
    labels = labelled(network)[:10]
    change = (found.adversarial - x).flatten(1)
    hits = found.fooled
    said = labels_of(network, found.adversarial)
    assert (said != labels)[hits].all()
    assert torch.equal(said, found.says)
    assert torch.equal(found.adversarial[~hits], x[~hits])
    assert change.abs().max() <= 3 / 255 * (1 + 1e-6)
    torch.testing.assert_close(found.norm, change.abs().amax(1))
    assert (found.smallest[hits] <= found.norm[hits]).all()
    assert found.smallest[~found.right].eq(0).all()
    assert (found.smallest[found.right & ~hits] > 3 / 255).all()
    assert int((found.smallest > 3 / 255 * (1 + 1e-6)).sum()) == found.robust.count  # the curve passes through it


def test_counts_every_pass() -> None:
    network = conv_net()
    sizes: list[int] = []
    handle = network.register_forward_hook(lambda layer, given, output: sizes.append(len(output)))
    found = evaluate(network, X, labelled(conv_net()), **QUICK)
    handle.remove()
    checks = 1 + 20 + 2 * 2 + 2 * 2  # classes, before any attack, whether it is deterministic: no attack of any picture
    assert int(found.forwards.sum()) == sum(sizes) - checks
    assert found.backwards[found.right].min() >= 1
    assert found.forwards[~found.right].eq(0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_of_a_linear_network_it_is_exact(norm: str) -> None:
    network, x = linear(2), draw(16, 3, 4, 4)
    labels = labels_of(network, x)
    eps = {"linf": 0.03, "l2": 0.2, "l1": 1.0}[norm]
    found = evaluate(network, x, labels, suite=["fgsm", "pgd"], norm=norm, eps=eps, curve=False, checked=0)
    assert torch.equal(found.fooled, linear_attack(network, x, labels, norm=norm, eps=eps).success)


def test_no_budget_is_clean_accuracy() -> None:
    network = conv_net()
    found = evaluate(network, X, labelled(network), **QUICK | {"eps": 0})
    assert found.robust == found.clean
    assert found.clean.count == 17


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.5", 0.5), (".25", 0.25), (0.1, 0.1), ("1e-2", 0.01)]
)
def test_budgets_as_text(text: str | float, value: float) -> None:
    network = linear(2)
    x = draw(2, 3, 4, 4)
    assert evaluate(network, x, [0, 1], **QUICK | {"eps": text, "suite": ["fgsm"]}).settings["eps"] == value


def test_pictures_do_not_depend_on_one_another() -> None:
    network = conv_net()
    labels = labelled(network)
    found = evaluate(network, X, labels, **QUICK)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    other = evaluate(network, X[order], labels[order], batch_size=3, **QUICK)
    assert torch.equal(other.broken_by, found.broken_by[order])
    torch.testing.assert_close(other.adversarial, found.adversarial[order], rtol=0, atol=1e-9)


class Stop(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 5])
def test_goes_on_where_it_was(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "PART", 8)
    network, seen = conv_net(), list[int]()
    labels = labelled(network)
    whole = evaluate(network, X, labels, **QUICK)

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == after:
            raise Stop

    with pytest.raises(Stop):
        evaluate(network, X, labels, folder=tmp_path, progress=stop, **QUICK)
    (tmp_path / "parts" / ".part-0000016-00004.0123abcd.pt").write_bytes(b"killed while writing")
    sizes: list[int] = []
    network.register_forward_hook(lambda layer, given, output: sizes.append(len(output)))
    found = evaluate(network, X, labels, folder=tmp_path, **QUICK)
    assert same(found, whole)
    assert [(row.broke, row.forwards) for row in found.attacks] == [(row.broke, row.forwards) for row in whole.attacks]
    again = len(sizes)
    assert same(evaluate(network, X, labels, folder=tmp_path, **QUICK), whole)
    assert len(sizes) - again == 1  # how many classes there are
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "done-0000000-00008.pt", "done-0000008-00008.pt", "done-0000016-00004.pt",
    ]  # fmt: skip


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    network = conv_net()
    labels = labelled(network)
    whole = evaluate(network, X, labels, folder=tmp_path, **QUICK)
    [file] = (tmp_path / "parts").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert same(evaluate(network, X, labels, folder=tmp_path, **QUICK), whole)


@pytest.mark.parametrize("change", ["eps", "pictures", "labels", "weights", "suite"])
def test_another_evaluation_in_the_folder_is_refused(change: str, tmp_path: Path) -> None:
    network, x = conv_net(), X.clone()
    labels = labelled(network)
    evaluate(network, x, labels, folder=tmp_path, **QUICK)
    more = dict(QUICK)
    if change == "pictures":
        x[3, 0, 0, 0] += 0.001
    elif change == "labels":
        labels[5] = (labels[5] + 1) % 5
    elif change == "weights":
        network[0].weight.data[0, 0, 0, 0] += 1e-6
    else:
        more |= {"eps": 4 / 255} if change == "eps" else {"suite": ["pgd"]}
    with pytest.raises(SaccadeError, match="other pictures, another network or other settings"):
        evaluate(network, x, labels, folder=tmp_path, **more)


def test_processes_share_the_pictures_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that stand for processes; the first part is one that a single process had begun."""
    network = conv_net()
    labels = labelled(network)
    whole = evaluate(network, X, labels, **QUICK)
    meet, found, errors = threading.Barrier(2, timeout=60), dict[int, Evaluation](), list[BaseException]()
    monkeypatch.setattr(parts, "sum_over_processes", lambda values, world: meet.wait() if world.size > 1 else 0)
    monkeypatch.setattr(MODULE, "PART", 6)

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        evaluate(network, X, labels, folder=tmp_path, progress=stop, **QUICK)

    def run(rank: int) -> None:
        try:
            world = World(rank, 2, torch.device("cpu"))
            time.sleep(0.2 * rank)
            found[rank] = evaluate(deepcopy(network), X, labels, folder=tmp_path, world=world, **QUICK)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert same(found[0], whole, but="backwards")  # that of a batch is left out once all of it is fooled
    assert same(found[1], found[0])
    assert len(list((tmp_path / "parts").glob("done-*.pt"))) == 4


def test_processes_need_a_folder() -> None:
    with pytest.raises(SaccadeError, match="2 processes need folder="):
        evaluate(linear(2), draw(2, 3, 4, 4), [0, 1], world=World(0, 2, torch.device("cpu")), **QUICK)


class Awkward(nn.Module):
    """A network that does something from its n-th pass on."""

    def __init__(self, inner: nn.Module, after: int, what: str) -> None:
        super().__init__()
        self.inner, self.after, self.what, self.passes = inner, after, what, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        scores: Tensor = self.inner(x)
        if self.passes > self.after:
            if self.what == "raises":
                raise ValueError("no more\nof this")
            if self.what == "nan":
                return scores * torch.nan
        return scores


@pytest.mark.parametrize("after", [0, 1, 6])
@pytest.mark.parametrize(
    ("what", "message"), [("raises", "the network raised ValueError \\(no more\\)"), ("nan", "not finite")]
)
def test_a_network_that_fails_on_the_way_is_one_sentence(what: str, message: str, after: int) -> None:
    network = Awkward(conv_net(), after, what)
    network.inner[0].weight.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    weights = deepcopy(network.state_dict())
    with pytest.raises(SaccadeError, match=message) as caught:
        evaluate(network, X, labelled(conv_net()), **QUICK)
    assert "\n" not in str(caught.value)
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert not network.training


def test_train_mode_is_refused() -> None:
    with pytest.raises(SaccadeError, match="train mode"):
        evaluate(conv_net().train(), X, [0] * 20, **QUICK)


def test_other_precisions_and_devices_of_a_network() -> None:
    network = conv_net(dtype=torch.bfloat16)
    x = X.float()
    with torch.no_grad():
        labels = network(x.bfloat16()).argmax(1)
    found = evaluate(network, x, labels, **QUICK)
    assert found.clean.value == 1
    assert found.fooled.any()
    assert found.settings["precision"] == "pictures float32, network bfloat16"
    with torch.no_grad():
        said = network(found.adversarial.bfloat16()).argmax(1)
    assert torch.equal(said != labels, found.fooled)


def test_names_of_classes_as_labels() -> None:
    inner = conv_net(3)
    network = Network(inner, classes=("cat", "dog", "owl")).eval()
    x = X.float()
    inner.float()
    labels = labels_of(network, x)
    names = [("cat", "dog", "owl")[i] for i in labels.tolist()]
    found = evaluate(network, x, names, **QUICK)
    assert torch.equal(found.labels, labels)
    assert found.clean.value == 1


def test_the_suite_is_autoattack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pictures are broken by the same attacks as in one call; here of two short ones."""

    def short(norm: str) -> dict[str, Any]:
        return {"apgd-ce": partial(run_apgd, loss=cross_entropy, steps=1), "square": partial(run_square, queries=30)}

    monkeypatch.setitem(MODES, "standard", short)
    network, x = linear(3, (3, 2, 2)), draw(16, 3, 2, 2)
    labels = labels_of(network, x)
    suite = [attack for attack in SUITES["autoattack"] if attack.name in short("linf")]
    found = evaluate(network, x, labels, suite=suite, eps=0.12, curve=False, checked=0, seed=3)
    expected = autoattack(network, x, labels, eps=0.12, seed=3)
    names = [found.attacks[by].name if by != NEVER else "" for by in found.broken_by.tolist()]
    assert tuple(names) == expected.broken_by
    assert set(names) == {"apgd-ce", "square", ""}


def test_autoattack_is_of_four_attacks() -> None:
    assert [attack.name for attack in SUITES["autoattack"]] == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("suite", list(SUITES))
@pytest.mark.parametrize("classes", [2, 3])
def test_every_suite_takes_few_classes(suite: str, classes: int) -> None:
    network = Linear(draw(classes, 3, 2, 2) - 0.5, torch.zeros(classes, dtype=torch.float64))
    x = draw(2, 3, 2, 2)
    labels = labels_of(network, x)
    found = evaluate(network, x, labels, suite=suite, eps=0.9, curve=False, checked=0)
    assert found.robust.count <= int((~linear_attack(network, x, labels, eps=0.9).success).sum())


def test_all_is_there_for_machines(curved: Evaluation) -> None:
    found = curved
    facts = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert facts["robust"]["count"] == found.robust.count
    assert facts["pictures"]["broken_by"].count("ti-fgsm") == found.attacks[0].broke
    assert facts["forwards"] == sum(row.forwards for row in found.attacks)
    assert [row["name"] for row in facts["attacks"]] == ["ti-fgsm", "pgd", "smallest"]
    assert facts["settings"]["suite"] == ["ti-fgsm", "pgd"]
    assert len(facts["curve"]["eps"]) == 65
    assert found.broken_by[found.right & ~found.fooled].eq(NEVER).all()


def test_quantiles_are_of_the_pictures_that_were_right(curved: Evaluation) -> None:
    found = curved
    sizes = sorted(found.smallest[found.right].tolist())
    for share, size in found.quantiles().items():
        assert sum(each <= size for each in sizes) >= share * len(sizes) - 1e-9
        assert sum(each < size for each in sizes) <= share * len(sizes) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": "magic"}, "no suite 'magic'; there are autoattack"),
        ({"suite": []}, "there are no attacks"),
        ({"suite": ["pgd-l2"]}, "PGD-L2 has no norm 'linf'"),
        ({"norm": "l0"}, "norm is 'l0', expected one of linf, l2, l1"),
        ({"eps": "8/0"}, "eps is '8/0'"),
        ({"eps": -1}, "eps is -1"),
        ({"eps": "wide"}, "eps is 'wide'"),
        ({"pictures": X + 2}, r"expected \[0, 1\]"),
        ({"pictures": X[0]}, "expected a tensor"),
        ({"labels": [0]}, "1 targets were given for 20 pictures"),
        ({"labels": [7] * 20}, "no class 7"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    given = {"pictures": X, "labels": [0] * 20, **QUICK, **change}
    with pytest.raises(SaccadeError, match=message):
        evaluate(conv_net(), given.pop("pictures"), given.pop("labels"), **given)


def test_the_table_of_attacks_is_what_names_mean() -> None:
    network = linear(2)
    x = draw(3, 3, 4, 4)
    found = evaluate(network, x, labels_of(network, x), **QUICK | {"suite": "fgsm, bim"})
    assert [row.title for row in found.attacks] == [ATTACKS["fgsm"].title, ATTACKS["bim"].title]
