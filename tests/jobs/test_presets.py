"""Presets: each is a spec that can start, sets what it says and nothing else, and its figures are those that were measured."""

import json
import re
from pathlib import Path

import pytest

from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.audit import audit
from workbench.jobs.estimate import estimate
from workbench.jobs.presets import Preset, applied, presets

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "adapters.json"


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_a_preset_is_a_spec_that_starts_without_a_warning(preset: Preset, workspace: Workspace) -> None:
    plain = TrainSpec().model_dump(mode="json")
    spec = TrainSpec.parse(applied(preset, {**plain, "name": "mine", "steps": 7}))
    assert spec.name == "mine" and spec.steps == 7
    assert not [finding for finding in audit(spec, workspace) if finding.level == "act" or "learning rate" in finding.text]
    changed = {name for name, value in spec.model_dump(mode="json").items() if value != plain[name]} - {"name", "steps"}
    assert changed <= set(preset.spec) and "adapter" in preset.spec


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_its_methods_come_with_all_their_knobs_as_usual_but_for_its_own(preset: Preset) -> None:
    whole = applied(preset, {"name": "mine"})
    for part in ("adapter", "update"):
        usual = TrainSpec.parse({part: preset.spec[part]["method"]}).model_dump(mode="json")[part]
        assert whole[part] == {**usual, **preset.spec[part]}


def test_smallest_memory_is_the_smallest(workspace: Workspace) -> None:
    plain = TrainSpec().model_dump(mode="json")
    needs = {preset.name: estimate(TrainSpec.parse(applied(preset, plain)), workspace).bytes for preset in presets()}
    assert min(needs, key=needs.__getitem__) == "Smallest memory" and needs["Smallest memory"] < estimate(TrainSpec(), workspace).bytes / 3


def test_figures_are_those_of_the_result_file() -> None:
    rows = {row["adapter"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))["table"]}
    least, most, _ = presets()
    own, lora = rows[least.spec["adapter"]["method"]], rows["lora"]
    assert re.findall(r"\d\.\d+", least.why)[1:] == [f"{row['forgotten when learnt']:.2g}" for row in (own, lora)]
    own = rows[most.spec["adapter"]["method"]]
    assert re.findall(r"(\d+) %", most.why) == [f"{100 * row['right']:.0f}" for row in (own, lora)]
