"""`docs/performance.md` says what the results say: all of them, what is not there, and which goals are missed."""

import copy
import importlib
import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ABOUT = {"machine": "a machine", "versions": {"torch": "9.8"}, "date": "2026-01-02"}
TRAINED = {"tokens_per_s": 10.0, "tokens_per_cpu_s": 9.0, "gradient": 1.0, "loss_before": 3.0, "loss_after": 2.0}
WAY = {"ms": 4.0, "over_transformers": [1.0, 1.0, 1.0], "extra_mib": 8.0, "value_off": 1e-7, "gradient_off": None, "right": True}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "scripts"))
    yield importlib.import_module("write_performance")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def results(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results in place of the true one."""
    monkeypatch.setattr(sys.modules["performance_entries"], "RESULTS", tmp_path)
    return tmp_path


def entries(script: ModuleType) -> list[Any]:
    return [*script.CPU, *script.GPU, *script.QUALITY]


def page(script: ModuleType) -> str:
    return str(script.written()[script.PAGE])


def section(text: str, title: str) -> str:
    """From a heading to the next."""
    return re.split(r"^#{2,3} ", text.split(f"### {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def put(results: Path, name: str, **result: Any) -> None:
    (results / f"{name}.json").write_text(json.dumps(result | ABOUT))


def train(name: str, wall: float, bound: float) -> dict[str, Any]:
    """A result of train_cpu.py in which one contender is `wall` times as fast as the trainer."""
    times = {"wall": [wall, wall - 0.5, wall + 0.5], "cpu": [wall, wall, wall]}
    return {
        "case": "7M",
        "contenders": {name: TRAINED | {"over_trainer": times}},
        "goals": {f"{name} over trainer": times | {"goal": bound}},
    }


# The page that lies there.


def test_the_page_is_what_the_results_say(script: ModuleType) -> None:
    written = script.written()
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, "run `python scripts/write_performance.py`"
    assert set(script.PICTURES.glob("*")) == set(written) - {script.PAGE}, "a picture that nobody shows"


def test_every_result_is_on_the_page(script: ModuleType) -> None:
    text = page(script)
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"(../benchmarks/results/{path.name})" in text


def test_every_benchmark_is_on_the_page(script: ModuleType) -> None:
    """Measured or not."""
    there = {path for path in (ROOT / "benchmarks").glob("*.py") if re.search(r"^def main", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert {entry.script for entry in entries(script)} == there


def test_every_link_leads_somewhere(script: ModuleType) -> None:
    text = page(script)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}  # GitHub's rule
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        assert link[1:] in anchors if link.startswith("#") else (ROOT / "docs" / link).exists(), link


def test_tables_are_as_wide_as_their_heads(script: ModuleType) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", page(script), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block


def test_pictures_are_whole(script: ModuleType) -> None:
    pictures = {path: text for path, text in script.written().items() if path != script.PAGE}
    assert pictures
    for text in pictures.values():
        bars = ET.fromstring(text).findall("{http://www.w3.org/2000/svg}rect")
        assert bars and all(0 <= float(bar.attrib["width"]) <= 420 for bar in bars)


# Results that are not there, goals that are missed, figures that mean nothing.


def test_what_is_not_there_is_said_with_its_command(script: ModuleType, results: Path) -> None:
    text = page(script)
    listed = re.findall(r"^- (.*): `python (.*)`$", text, flags=re.MULTILINE)
    assert {command for _, command in listed} == {entry.run for entry in entries(script)}
    assert "Goals reached: 0 of 0 measured." in text and "**missed**" not in text and "Measured 20" not in text
    put(results, "train_cpu", **train("workbench packed", 4.0, 3.5))
    listed = re.findall(r"^- (.*): `python (.*)`$", page(script), flags=re.MULTILINE)
    assert "benchmarks/train_cpu.py" not in {command for _, command in listed}


@pytest.mark.parametrize(("wall", "told", "reached"), [(3.4, "**missed**", 0), (3.6, "reached", 1)])
def test_a_goal_is_said_to_be_reached_or_missed(script: ModuleType, results: Path, wall: float, told: str, reached: int) -> None:
    put(results, "train_cpu", **train("workbench packed", wall, 3.5))
    text = page(script)
    assert f"Goals reached: {reached} of 1 measured." in text
    assert re.search(
        rf"^\| \[7M: workbench packed over trainer.*\| at least 3\.5 \| {wall} .* \| {re.escape(told)} \|$", text, re.MULTILINE
    )
    assert f"Goal: at least 3.5, {told}." in section(text, "Training, 7 million parameters")


def test_goals_that_a_benchmark_holds_itself(script: ModuleType, results: Path) -> None:
    goals = [
        {"what": "cost", "found": 0.08, "at_most": 0.05, "reached": False},
        {"what": "speed", "found": 2.0, "at_least": 1, "reached": True},
    ]
    put(results, "probe", runs={}, spread={}, goals=goals)
    told = section(page(script), "The step-safety probe")
    assert "- cost: 0.08. Goal: at most 0.05, **missed**." in told and "- speed: 2. Goal: at least 1, reached." in told


def test_when_where_with_what_and_how(script: ModuleType, results: Path) -> None:
    put(results, "train_cpu_13m", **train("workbench packed", 4.0, 3.5))
    told = section(page(script), "Training, 13 million parameters")
    assert "Measured 2026-01-02 on a machine, with torch 9.8. Again: `python benchmarks/train_cpu.py --case 13M`." in told
    assert "Training on a CPU: real tokens a second" in told, "the benchmark's own words"


def test_what_a_script_measures_twice_is_explained_once(script: ModuleType, results: Path) -> None:
    for name in ("train_cpu", "train_cpu_13m"):
        put(results, name, **train("workbench packed", 4.0, 3.5))
    text = page(script)
    assert text.count("Training on a CPU: real tokens a second") == 1
    assert "see [Training, 7 million parameters](#training-7-million-parameters)" in section(text, "Training, 13 million parameters")


def test_contenders_that_nobody_has_heard_of(script: ModuleType, results: Path) -> None:
    """A benchmark may compare with others tomorrow."""
    put(results, "train_cpu", **train("new | one", 4.0, 3.5))
    told = section(page(script), "Training, 7 million parameters")
    assert "| new \\| one | 10 | 9 | 4 (3.5–4.5) |" in told
    assert "new | one" in script.written()[script.PICTURES / "train_cpu.svg"]


def test_what_is_wrong_has_no_speed(script: ModuleType, results: Path) -> None:
    wrong = copy.deepcopy(WAY) | {"ms": 0.125, "value_off": 0.5, "right": False}
    rows = [{"case": "small", "ways": {"transformers": WAY, "workbench": wrong, "rival": WAY | {"ms": 2.5}}}]
    put(results, "head", rows=rows, missing={"Liger": "needs a GPU"}, goals=[])
    told = section(page(script), "The head and its loss")
    assert "| small | workbench | **wrong** | **wrong** |" in told and "0.125" not in told
    assert "| small | rival | 2.5 |" in told and "not measured: needs a GPU" in told
    assert "workbench" not in script.written()[script.PICTURES / "head.svg"]
