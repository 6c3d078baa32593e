"""Parts of a weight: taken out and put back they change nothing, and nothing beside them is touched."""

import pytest
import torch

from workbench.materials.regions import Blocks, Columns, Elements, Region, Rows, carried

REGIONS = {
    "rows": (Rows(torch.tensor([1, 4])), (2, 4)),
    "columns": (Columns(torch.tensor([0, 3])), (6, 2)),
    "elements": (Elements(torch.tensor([0, 5, 23])), (1, 3)),
    "blocks": (Blocks(torch.tensor([1, 4]), 2), (2, 4)),
    "none": (Elements(torch.tensor([], dtype=torch.int64)), (1, 0)),
}


@pytest.mark.parametrize(("region", "shape"), REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_part_is_taken_out_and_put_back(region: Region, shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = torch.arange(24, dtype=dtype).view(6, 4)
    before = weight.clone()
    values = region.gather(weight)
    assert values.shape == shape
    region.scatter(weight, values)
    assert torch.equal(weight, before)
    region.scatter(weight, -values.float() - 1)
    assert torch.equal(region.gather(weight), -values - 1)
    beside = torch.ones(24, dtype=torch.bool)
    beside[region.flat(weight.shape)] = False
    assert torch.equal(weight.flatten()[beside], before.flatten()[beside]) and int(beside.sum()) == 24 - values.numel()


@pytest.mark.parametrize(("region", "shape"), REGIONS.values(), ids=REGIONS)
def test_the_places_are_in_the_order_of_the_numbers(region: Region, shape: tuple[int, int]) -> None:
    weight = torch.rand(6, 4)
    assert torch.equal(weight.flatten()[region.flat(weight.shape)], region.gather(weight).flatten())


def test_a_worked_example_of_blocks() -> None:
    weight = torch.arange(24).view(6, 4)
    assert Blocks(torch.tensor([1, 4]), 2).gather(weight).tolist() == [[2, 3, 6, 7], [16, 17, 20, 21]]


def test_entries_of_a_vector_stay_a_vector() -> None:
    weight = torch.arange(5.0)
    region = Elements(torch.tensor([1, 3]))
    assert region.gather(weight).tolist() == [1, 3]
    region.scatter(weight, torch.tensor([-1.0, -3.0]))
    assert weight.tolist() == [0, -1, 2, -3, 4]


def test_elsewhere_a_part_is_of_the_same_kind() -> None:
    assert Blocks(torch.tensor([0]), 3).moved_to(torch.tensor([1])).gather(torch.arange(18).view(3, 6)).tolist() == [
        [3, 4, 5, 9, 10, 11, 15, 16, 17]
    ]
    assert type(Rows(torch.tensor([0])).moved_to(torch.tensor([1]))) is Rows


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        ([1, 5, 9], [5, 9, 11], [20, 30, 0]),
        ([9, 1, 5], [1, 2, 9], [20, 0, 10]),
        ([1], [0, 2], [0, 0]),
        ([], [0, 2], [0, 0]),
        ([3, 4], [], []),
    ],
)
def test_numbers_are_carried_to_where_their_places_are(before: list[int], now: list[int], wanted: list[float]) -> None:
    values = torch.arange(1, len(before) + 1) * 10.0
    found = carried(values, torch.tensor(before, dtype=torch.int64), torch.tensor(now, dtype=torch.int64))
    assert found.tolist() == wanted
