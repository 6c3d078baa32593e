"""The order of rows: every row once an epoch, a function of seed and step, and packing changes what is in a batch, not what is learnt."""

from collections import Counter

import torch

from workbench.core.spec import TrainSpec
from workbench.jobs.batches import Batches, in_batches
from workbench.materials.templates import Encoded


def rows(number: int) -> list[Encoded]:
    """Row i holds the token 10 + i, 2 to 6 times."""
    return [Encoded([10 + i] * (2 + i % 5), [False] + [True] * (1 + i % 5), 0) for i in range(number)]


def seen(batches: Batches, steps: range) -> Counter[int]:
    return Counter(int(ids[0]) - 10 for step in steps for batch in batches.window(step) for ids in batch["input_ids"])


def test_each_row_comes_once_an_epoch() -> None:
    batches = Batches.of(rows(12), TrainSpec(batch_size=2, accumulate=2), pad_id=0)
    assert batches.steps_per_epoch == 3
    assert seen(batches, range(1, 4)) == Counter(range(12)) == seen(batches, range(4, 7))


def test_the_order_follows_from_the_seed_and_the_step_alone() -> None:
    first, again, other = (Batches.of(rows(9), TrainSpec(batch_size=4, seed=seed), 0) for seed in (0, 0, 1))
    drawn = [batches.window(7)[0]["input_ids"].tolist() for batches in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_window_has_accumulate_batches_of_batch_size_rows() -> None:
    window = Batches.of(rows(20), TrainSpec(batch_size=3, accumulate=4), 0).window(1)
    assert [len(batch["input_ids"]) for batch in window] == [3, 3, 3, 3]


def test_packing_learns_the_same_tokens() -> None:
    spec = TrainSpec(batch_size=2, packing=True, data={"max_length": 12})
    batches = Batches.of(rows(12), spec, 0)
    steps = round(batches.steps_per_epoch + 0.49)
    learnt = Counter(
        label
        for step in range(1, steps + 1)
        for batch in batches.window(step)
        for label in batch["labels"].flatten().tolist()
        if label >= 0
    )
    assert set(learnt) == {10 + i for i in range(12)}
    assert len(batches.units) < 12


def test_evaluation_keeps_every_row_and_sorts_by_length() -> None:
    batches = list(in_batches(rows(7), 3, pad_id=0))
    assert [len(batch["input_ids"]) for batch in batches] == [3, 3, 1]
    assert sorted(int(ids[0]) for batch in batches for ids in batch["input_ids"]) == list(range(10, 17))
    assert torch.equal(batches[0]["attention_mask"].sum(1).sort().values, batches[0]["attention_mask"].sum(1))
