"""Where and in which numbers: a named precision is taken, half on a GPU, and on a CPU bfloat16 only where nothing is rounded for it."""

from pathlib import Path

import pytest
import torch
from pico import make_model

from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import estimate
from workbench.jobs.prepare import prepare
from workbench.materials import precision
from workbench.materials.precision import place


@pytest.fixture
def saved(tmp_path: Path, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The pico model in both formats; this CPU multiplies bfloat16, and no model is tiny."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "TINY", 0)
    precision._was_saved_so.cache_clear()
    folders = {"float32": pico_folder, "bfloat16": tmp_path / "half"}
    make_model().bfloat16().save_pretrained(folders["bfloat16"])
    for file in pico_folder.glob("token*"):
        (folders["bfloat16"] / file.name).write_bytes(file.read_bytes())
    (folders["bfloat16"] / "chat_template.jinja").write_bytes((pico_folder / "chat_template.jinja").read_bytes())
    return folders


def test_a_cpu_trains_a_frozen_base_in_bfloat16_where_it_was_saved_so(saved: dict[str, Path], workspace: Workspace) -> None:
    half, whole = str(saved["bfloat16"]), str(saved["float32"])
    assert [place("auto", path)[1] for path in (half, whole, "")] == [torch.bfloat16, torch.float32, torch.float32]
    spec = {"model": half, "data": {"path": "quickstart"}}
    prepared = drain(prepare(TrainSpec(**spec, adapter="lora"), workspace))
    assert prepared.numbers == prepared.model.dtype == torch.bfloat16
    assert torch.equal(prepared.model.get_input_embeddings().weight, make_model().bfloat16().get_input_embeddings().weight)
    full = drain(prepare(TrainSpec(**spec, adapter="full"), workspace))
    assert full.numbers == full.model.dtype == torch.float32, "what moves is float32"
    halves = [
        dict(estimate(TrainSpec(**spec, adapter="lora", precision=named), workspace).memory)["weights"] for named in ("auto", "float32")
    ]
    assert 2 * halves[0] == halves[1]


@pytest.mark.parametrize("named", ["float16", "bfloat16", "float32"])
def test_a_precision_that_is_named_is_taken(named: str, saved: dict[str, Path]) -> None:
    assert place(named, str(saved["bfloat16"])) == (torch.device("cpu"), precision.PRECISIONS[named])


@pytest.mark.parametrize("why", ["it is emulated", "the model is tiny"])
def test_it_stays_in_float32_where_bfloat16_brings_nothing(why: str, saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "it is emulated":
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    else:
        monkeypatch.setattr(precision, "TINY", 10**9)
    assert place("auto", str(saved["bfloat16"]))[1] == torch.float32


def test_a_cpu_is_tried_once() -> None:
    assert precision.multiplies_bfloat16() is precision.multiplies_bfloat16()
    assert precision.multiplies_bfloat16.cache_info().misses == 1
