"""What was read is found again text by text, in any order, from any number of writes; what is damaged is read anew."""

import os
import time
from pathlib import Path

import pytest
import torch

from workbench.materials import readings
from workbench.materials.readings import add, find, prune


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


def kept(folder: Path, texts: int = 5) -> list[int]:
    return [text for text in range(texts) if find(folder, torch.tensor([text]))[0].all()]


def aged(folder: Path, text: int, hours: float) -> Path:
    """A reading of one text, asked for so many hours ago."""
    before = {*folder.glob("*")}
    add(folder, torch.tensor([text]), torch.zeros(1, 1000))
    (path,) = {*folder.glob("*")} - before
    os.utime(path, (time.time() - 3600 * hours,) * 2)
    return path


def test_beyond_the_bound_what_was_asked_for_the_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever reading it is of; what was found again is new."""
    one, other = tmp_path / "vectors", tmp_path / "surprise"
    size = aged(one, 0, 9).stat().st_size
    for text, hours in ((1, 7), (2, 3)):
        aged(one, text, hours)
    for text, hours in ((3, 8), (4, 2)):
        aged(other, text, hours)
    (tmp_path / "other.file").write_text("no reading")
    assert find(one, torch.tensor([0]))[0].all()
    monkeypatch.setattr(readings, "MOST", 5 * size)
    prune(tmp_path)
    assert len([*tmp_path.glob("*/*")]) == 5
    monkeypatch.setattr(readings, "MOST", 3 * size)
    prune(tmp_path)
    assert {path.parent.name for path in tmp_path.glob("*/*")} == {"vectors", "surprise"}
    assert (kept(one), kept(other)) == ([0, 2], [4]) and (tmp_path / "other.file").exists()


def test_what_was_asked_for_within_the_hour_stays_whatever_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, hours in ((0, 0.9), (1, 1.1), (2, 0)):
        aged(tmp_path / "vectors", text, hours)
    monkeypatch.setattr(readings, "MOST", 0)
    prune(tmp_path)
    assert kept(tmp_path / "vectors") == [0, 2]
    prune(tmp_path / "none")
