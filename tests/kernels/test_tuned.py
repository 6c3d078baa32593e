"""Launches that were measured: read where they are, left alone where they are not, refused where they are none; and how they are found."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from workbench_kernels import swiglu, tuned
from workbench_kernels.parts import Launch
from workbench_kernels.roofline import Shape

ROOT = Path(__file__).parents[2]
FOLDER = Path(swiglu.__file__).parent
MEASURED = {"9.0": {"glu": {"64": Launch(2, 4, {"BLOCK": 32})}}}
BEGINS = Launch(4, 3, {"BLOCK": 64})


@pytest.fixture(autouse=True)
def on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a table would lie."""
    monkeypatch.setattr(tuned, "FILE", tmp_path / "launches.json")
    monkeypatch.setattr(tuned, "capability", lambda _: "9.0")
    tuned.table.cache_clear()
    yield tmp_path / "launches.json"
    tuned.table.cache_clear()


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import tune

    yield tune
    sys.modules.pop("tune")


def start(of: object = 64) -> Launch:
    return tuned.tuned("glu", torch.device("cpu"), BEGINS, of)


def test_a_kernel_starts_as_was_measured_and_else_as_it_begins(on_a_gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start() == BEGINS
    on_a_gpu.write_text(tuned.written(MEASURED))
    tuned.table.cache_clear()
    assert start() == Launch(2, 4, {"BLOCK": 32}) and start(65) == BEGINS
    monkeypatch.setattr(tuned, "capability", lambda _: "8.0")
    assert start() == BEGINS


def test_nothing_was_measured_yet_and_a_cpu_has_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed out says what the modules say."""
    assert not (FOLDER / "launches.json").exists()
    monkeypatch.undo()
    assert tuned.capability(torch.device("cpu")) == ""


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"9.0": 3}', '{"9.0": {"glu": {"64": {"warps": 4}}}}',
        '{"9.0": {"glu": {"64": {"warps": 3, "stages": 3, "tiles": {"BLOCK": 32}}}}}',
        '{"9.0": {"glu": {"64": {"warps": 64, "stages": 3, "tiles": {"BLOCK": 32}}}}}',
        '{"9.0": {"glu": {"64": {"warps": 4, "stages": 0, "tiles": {"BLOCK": 32}}}}}',
        '{"9.0": {"glu": {"64": {"warps": 4, "stages": 3, "tiles": {"BLOCK": 33}}}}}',
        '{"9.0": {"glu": {"64": {"warps": 4, "stages": 3, "tiles": {"BLOCK": 32.0}}}}}',
        '{"9.0": {"glu": {"64": {"warps": 4, "stages": 3, "tiles": {"WIDTH": 32}}}}}',
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_what_to_do(text: str, on_a_gpu: Path) -> None:
    on_a_gpu.write_text(text)
    with pytest.raises(ValueError, match=r"launches\.json.*Delete it, or measure again"):
        start()


def test_the_search_goes_on_until_no_neighbour_is_faster(tune) -> None:
    """A time that is least at 8 warps, 2 stages and tiles of 256, by steps that each are worth more than noise; one that does not fit."""

    def seconds(launch: Launch) -> float:
        far = abs(launch.warps.bit_length() - 4) + abs(launch.stages - 2) + abs(launch.tiles["BLOCK"].bit_length() - 9)
        return float("inf") if launch.warps == 16 else 1.0 + far

    assert tune.fastest(BEGINS, ("BLOCK",), seconds) == (Launch(8, 2, {"BLOCK": 256}), 1.0, 5.0)
    assert tune.fastest(BEGINS, (), seconds)[0] == Launch(8, 2, {"BLOCK": 64})
    assert tune.fastest(BEGINS, ("BLOCK",), lambda launch: 1.0 - 1e-6 * launch.warps)[0] == BEGINS


def test_every_kernel_that_asks_is_measured_and_runs(tune) -> None:
    """By plain torch here; the names are those that the ops ask by."""
    asked = {name for file in FOLDER.glob("*.py") for name in re.findall(r'tuned\("(\w+)"', file.read_text())}
    found = tune.kernels(Shape(1, 16, 32, 2, 1, 8, 40), 6, 5, "cpu", torch.float32)
    assert {label.split()[0] for label in found} == asked
    for kernel in found.values():
        kernel.run()
        assert {*kernel.free} <= {*kernel.begins.tiles}
