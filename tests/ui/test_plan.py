"""The plan draws what the audit finds, in its colours, and nothing of it becomes markup."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.core.workspace import Workspace
from workbench.jobs.audit import Finding
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import plan as module
from workbench.ui.bench import first_spec
from workbench.ui.context import Context
from workbench.ui.plan import plan


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path)
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


def test_the_first_spec_starts_with_ticks_alone(ctx: Context) -> None:
    drawn = plan(ctx, first_spec())
    assert drawn.count('<li class="safe">') >= 4 and 'class="watch"' not in drawn and 'class="act"' not in drawn
    assert "so the model learns to stop" in drawn and "On disk " in drawn


def test_every_finding_is_drawn_in_its_colour_and_escaped(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("safe", "fits"), Finding("watch", "<script>${x}"), Finding("act", "no room")]
    monkeypatch.setattr(module, "audit", lambda spec, workspace: found)
    drawn = plan(ctx, first_spec())
    assert '<li class="safe">fits</li>' in drawn and '<li class="act">no room</li>' in drawn
    assert '<li class="watch">&lt;script&gt;&#36;&#123;x}</li>' in drawn


def test_a_missing_data_set_is_a_card(ctx: Context) -> None:
    drawn = plan(ctx, {**first_spec(), "data": {**first_spec()["data"], "path": "gone"}})
    assert 'class="card act"' in drawn and "gone" in drawn and "audit" not in drawn
