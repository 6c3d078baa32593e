"""Safetensors a block at a time: what is written is what the safetensors library reads, and the other way round."""

import errno
import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials import tensors as materials
from workbench.materials.tensors import NAMES, ModelWriter, Planned, find_tensors, read_header, read_rows, spans, task_gram, to_bytes


def some(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"a.weight": (7, 5), "b.weight": (3,), "c.weight": (2, 3, 4), "d": ()}
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def planned(tensors: dict[str, Tensor]) -> list[Planned]:
    format = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    return [Planned(name, format[t.dtype], tuple(t.shape), t.numel() * t.element_size()) for name, t in tensors.items()]


def put(folder: Path, tensors: dict[str, Tensor], shard: int = 10**9) -> None:
    with ModelWriter(folder, planned(tensors), shard) as writer:
        for name, tensor in tensors.items():
            writer.write(name, to_bytes(tensor))
        writer.commit()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_read_as_float32_and_in_any_blocks(name: str, tmp_path: Path) -> None:
    tensors = some(getattr(torch, name))
    save_file(tensors, tmp_path / "model.safetensors")
    entries = find_tensors(tmp_path, "it")
    for key, tensor in tensors.items():
        assert torch.equal(read_rows(entries[key], 0, entries[key].rows), tensor.float())
    assert torch.equal(read_rows(entries["a.weight"], 2, 5), tensors["a.weight"][2:5].float())
    assert entries["c.weight"].rows == 2 and entries["d"].rows == 1


@pytest.mark.parametrize(("shape", "block", "expected"), [
    ((7, 5), 10, [(0, 2), (2, 4), (4, 6), (6, 7)]), ((7, 5), 3, [(n, n + 1) for n in range(7)]), ((7, 5), 100, [(0, 7)]),
    ((7,), 3, [(0, 7)]), ((), 3, [(0, 1)]), ((0, 4), 3, []), ((2, 3, 4), 12, [(0, 1), (1, 2)]),
])  # fmt: skip
def test_spans_are_whole_rows(shape: tuple[int, ...], block: int, expected: list[tuple[int, int]]) -> None:
    assert spans(shape, block) == expected


@pytest.mark.parametrize("shard", [1, 110, 150, 10**9])
def test_what_is_written_is_what_safetensors_reads(shard: int, tmp_path: Path) -> None:
    tensors = some()
    put(tmp_path / "out", tensors, shard)
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    read = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert read.keys() == tensors.keys() and all(torch.equal(read[name], tensors[name]) for name in tensors)
    again = find_tensors(tmp_path / "out", "it")
    assert all(torch.equal(read_rows(again[name], 0, again[name].rows), tensors[name]) for name in tensors)
    if len(files) > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"].values()) == {file.name for file in files}
        assert index["metadata"]["total_size"] == sum(tensor.size for tensor in planned(tensors))
    assert all(entry.start % 4 == 0 for entry in again.values()), "numbers begin where a memory map can read them"
    assert len(files) == {1: 4, 110: 3, 150: 2, 10**9: 1}[shard]


def test_a_model_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    tensors = some()
    with pytest.raises(KeyError), ModelWriter(tmp_path / "out", planned(tensors)) as writer:
        writer.write("a.weight", to_bytes(tensors["a.weight"]))
        assert (tmp_path / "out.partial" / "model.safetensors").exists() and not (tmp_path / "out").exists()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AssertionError, match="never written"), ModelWriter(tmp_path / "out", planned(tensors)) as writer:
        writer.commit()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_program_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "old").write_text("x")
    put(tmp_path / "out", some())
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "model.safetensors"]


def test_a_full_disk_is_told_before_and_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = r"it needs 0\.0 MB, and .* left\. Nothing was kept"
    with pytest.raises(WorkbenchError, match=sentence), ModelWriter(tmp_path / "out", planned(some())):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(WorkbenchError, match="not enough room"), ModelWriter(tmp_path / "out", planned(some())):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    tensors = some()
    with pytest.raises(WorkbenchError, match="by now"), ModelWriter(tmp_path / "out", planned(tensors)) as writer:
        for name, tensor in tensors.items():
            writer.write(name, to_bytes(tensor))
        (tmp_path / "out").mkdir()
        writer.commit()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("refused", [0, 1])
def test_what_the_disk_refuses_to_keep_is_told(refused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While more is written, and at the end: some disks say that they are full only then."""
    asked: list[int] = []

    def full(file: int) -> None:
        asked.append(file)
        if len(asked) == 1 + refused:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(materials, "AHEAD", 140)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkbenchError, match="not enough room"):
        put(tmp_path / "out", {"a": torch.ones(40), "b": torch.ones(2)})
    assert len(asked) == 1 + refused and list(tmp_path.iterdir()) == []


def _header(text: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize("content", [
    b"", b"abc", struct.pack("<Q", 10**15), _header(b"not json"), _header(b"[1]"), _header(b'{"a": {"dtype": "F32"}}'),
    _header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', b"1234"),
    _header(b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}', b"12345678"),
    _header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}', b"12345678"),
])  # fmt: skip
def test_a_damaged_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WorkbenchError, match="is not a whole safetensors file"):
        read_header(tmp_path / "model.safetensors")


def test_a_file_that_shrinks_is_a_sentence(tmp_path: Path) -> None:
    save_file(some(), tmp_path / "model.safetensors")
    entry = find_tensors(tmp_path, "it")["a.weight"]
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(WorkbenchError, match="became shorter"):
        read_rows(entry, 0, 7)


def test_a_folder_without_safe_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match=r"^it has no weights: there is no model\.safetensors"):
        find_tensors(tmp_path, "it")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WorkbenchError, match=r"it holds its weights as pytorch_model\.bin, a format that can run code"):
        find_tensors(tmp_path, "it")


def test_shards_that_are_missing_or_outside_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    tmp_path = tmp_path / "inner"
    tmp_path.mkdir()
    index = tmp_path / "model.safetensors.index.json"
    for name in ("gone.safetensors", "../model.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(WorkbenchError, match=r"it lacks .*which its index names"):
            find_tensors(tmp_path, "it")
    save_file({"b": torch.ones(1)}, tmp_path / "one.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(WorkbenchError, match="it lacks the tensor a,"):
        find_tensors(tmp_path, "it")
    index.write_text("[]")
    with pytest.raises(WorkbenchError, match="is not an index of shards"):
        find_tensors(tmp_path, "it")


def test_inner_products_of_blocks_add_up_and_show_what_is_not_finite() -> None:
    torch.manual_seed(0)
    base, tuned = torch.randn(600, 500), [torch.randn(600, 500) for _ in range(2)]
    whole = task_gram(base, tuned)
    parts = sum(task_gram(base[a:b], [model[a:b] for model in tuned]) for a, b in [(0, 1), (1, 350), (350, 600)])
    tau = [model.double() - base.double() for model in tuned]
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-9)
    assert torch.allclose(whole[1, 2], (tau[0] * tau[1]).sum(), rtol=1e-10) and torch.allclose(whole[0, 0], base.double().pow(2).sum())
    for bad in (float("nan"), float("inf")):
        tuned[1][3, 4] = bad
        assert [bool(torch.isfinite(value)) for value in task_gram(base, tuned).diagonal()] == [True, True, False]


def test_rough_inner_products_are_good_to_a_millionth_of_the_norms() -> None:
    torch.manual_seed(0)
    base = torch.randn(300, 500)
    tuned = [base + 0.01 * torch.randn(300, 500), base, 1e30 * torch.randn(300, 500)]
    for models in (tuned[:2], tuned):  # the squares of the last one are too large for float32
        exact = task_gram(base, models)
        norms = exact.diagonal().sqrt()
        assert ((task_gram(base, models, rough=True) - exact).abs() <= 1e-6 * norms.outer(norms)).all()
    broken = torch.full_like(base, float("nan"))
    assert [bool(torch.isfinite(value)) for value in task_gram(base, [tuned[0], broken], rough=True).diagonal()] == [True, True, False]
