import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.data.split import split_indices
from saccade.errors import SaccadeError

labels_of = st.lists(st.integers(0, 6), min_size=2, max_size=300).map(torch.tensor)


@given(labels_of, st.floats(0, 0.95), st.integers(0, 2**40))
def test_a_partition_with_equal_shares(labels: torch.Tensor, val: float, seed: int) -> None:
    train, held_out = split_indices(labels, val=val, seed=seed)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    assert len(held_out) == min(round(val * len(labels)), len(labels) - 1)
    assert train.tolist() == sorted(train.tolist())
    share = len(held_out) / len(labels)
    for label in labels.unique():
        expected = share * int((labels == label).sum())
        assert abs(int((labels[held_out] == label).sum()) - expected) < 2


@given(labels_of, st.integers(0, 1000))
def test_the_same_seed_gives_the_same_split(labels: torch.Tensor, seed: int) -> None:
    first, second = (split_indices(labels, val=0.3, seed=seed) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_other_seeds_give_other_splits_of_the_course_size() -> None:
    labels = torch.arange(50_000) % 10
    splits = [split_indices(labels, val=1000, seed=seed)[1] for seed in range(2)]
    assert [len(split) for split in splits] == [1000, 1000]
    assert all(torch.bincount(labels[split]).tolist() == [100] * 10 for split in splits)
    common = len(set(splits[0].tolist()) & set(splits[1].tolist()))
    assert common < 60  # 20 are expected by chance


def test_no_validation() -> None:
    train, held_out = split_indices(torch.zeros(7, dtype=torch.int64), val=0, seed=1)
    assert train.tolist() == list(range(7))
    assert len(held_out) == 0


@pytest.mark.parametrize("val", [-0.1, 10, 11, 1.5, float("nan"), float("inf")])
def test_out_of_range(val: float) -> None:
    with pytest.raises(SaccadeError, match=r"val=.*fraction in \[0, 1\) or a whole number of pictures below 10"):
        split_indices(torch.zeros(10, dtype=torch.int64), val=val, seed=0)
