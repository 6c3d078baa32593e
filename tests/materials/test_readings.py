"""What was read is found again text by text, in any order, from any number of writes; what is damaged is read anew."""

from pathlib import Path

import torch

from workbench.materials.readings import add, find


def test_what_is_kept_is_found_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    add(tmp_path, torch.tensor([5, -3, 9]), torch.tensor([[5.0], [-3.0], [9.0]]))
    add(tmp_path, torch.tensor([1, -(2**63)]), torch.tensor([[1.0], [0.5]]))
    known, values = find(tmp_path, torch.tensor([9, 7, 1, 9, -(2**63), 2**63 - 1]))
    assert known.tolist() == [True, False, True, True, True, False] and values[:, 0].tolist() == [9, 1, 9, 0.5]


def test_nothing_is_known_where_nothing_was_kept(tmp_path: Path) -> None:
    known, values = find(tmp_path / "none", torch.tensor([1, 2]))
    assert not known.any() and not len(values)


def test_a_damaged_file_and_one_that_is_being_written_count_as_none(tmp_path: Path) -> None:
    add(tmp_path, torch.tensor([1]), torch.tensor([[1.0]]))
    add(tmp_path, torch.tensor([2]), torch.tensor([[2.0]]))
    one, two = sorted(tmp_path.glob("*.safetensors"))
    one.write_bytes(one.read_bytes()[:-2])
    (tmp_path / "half.coming").write_bytes(two.read_bytes()[:9])
    assert find(tmp_path, torch.tensor([1, 2]))[0].sum() == 1
