"""Runs whose adapter stays beside the model: they go on after a stop, are compared, and are told from what can be merged."""

import re
from pathlib import Path

import pytest

from tests.jobs.story import run, same, series, stopped
from workbench.core.asking import CompareSpec
from workbench.core.errors import WorkbenchError
from workbench.core.events import Measured, Said
from workbench.core.job import drain
from workbench.core.spec import MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.audit import audit
from workbench.jobs.compare import compare
from workbench.jobs.merge import merge

ADAPTERS = ["parallel_adapter", {"method": "mixlora", "experts": 4, "rank": 4}]


def of(spec: TrainSpec, adapter: object, workspace: Workspace, run_id: str) -> tuple[TrainSpec, Path]:
    """The spec, as it stands in the run's folder."""
    own = TrainSpec.parse({**spec.model_dump(mode="json"), "adapter": adapter, "prompts": ["Where is Kori?"]})
    folder = workspace.run(run_id)
    (folder / "spec.yaml").write_text(own.to_yaml())
    return own, folder


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(adapter: object, spec: TrainSpec, workspace: Workspace) -> None:
    own, whole = of(spec, adapter, workspace, "0001")
    events = run(own, whole, workspace)
    _, parted = of(spec, adapter, workspace, "0002")
    stopped(own, parted, workspace, 3, Measured)
    run(own, parted, workspace)
    losses = series(events, "loss")
    assert same(whole / "adapter", parted / "adapter") and losses[6] < losses[1]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=str)
def test_it_answers_in_a_comparison_as_at_the_end_of_its_run(adapter: object, spec: TrainSpec, workspace: Workspace) -> None:
    own, folder = of(spec, adapter, workspace, "0001")
    answered = [event.answer for event in run(own, folder, workspace) if isinstance(event, Said) and event.step == own.steps]
    asked = CompareSpec(models=["run:0001"], prompt="Where is Kori?", max_tokens=40)
    said = [event.answer for event in compare(asked, workspace.run("0002"), workspace) if isinstance(event, Said)]
    assert re.sub(r"<\|\w+\|>", "", said[-1]).strip() == answered[0], "where special tokens are shown"


def test_a_merge_says_why_it_cannot_take_it(spec: TrainSpec, workspace: Workspace) -> None:
    own, folder = of(spec, ADAPTERS[0], workspace, "0001")
    assert any("cannot be merged" in finding.text for finding in audit(own, workspace))
    run(own, folder, workspace)
    with pytest.raises(WorkbenchError, match=r"run 0001 .*cannot be merged"):
        drain(
            merge(MergeSpec.parse({"base": own.model, "models": [{"model": "run:0001"}], "name": "out"}), workspace.run("0002"), workspace)
        )


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_nothing_is_trained_on_top_of_it(adapter: str, spec: TrainSpec, workspace: Workspace) -> None:
    """All weights too: they would be saved without the modules that they were trained with."""
    own, folder = of(spec, ADAPTERS[0], workspace, "0001")
    run(TrainSpec.parse({**own.model_dump(mode="json"), "steps": 1}), folder, workspace)
    on_top = TrainSpec.parse({**spec.model_dump(mode="json"), "model": "run:0001", "adapter": adapter})
    assert [finding for finding in audit(on_top, workspace) if finding.level == "act"]
    with pytest.raises(WorkbenchError, match="Train from the model that it stands on"):
        run(on_top, workspace.run("0002"), workspace)
