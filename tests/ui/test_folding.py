"""Saving a run's adapter as a model from the Runs tab: when it is offered, what is said on the way and in the end, and how it is left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model

from workbench.core.events import Finished, Made, Progress
from workbench.core.spec import MergeSpec, TrainSpec
from workbench.core.workspace import Workspace
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.ui import folding, watching
from workbench.ui.context import Context
from workbench.ui.counting import Wishes
from workbench.ui.tabs.runs import BUTTONS, offered


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[Context]:
    workspace = Workspace(tmp_path / "home")
    with Store(workspace.database) as store, Runner(store, workspace, {}) as runner:
        yield Context(store, runner, workspace)


def made(ctx: Context, base: Path, method: str = "lora", status: str = "finished") -> str:
    """A run on record that made an adapter."""
    spec = TrainSpec.parse({"model": str(base), "adapter": {"method": method}})
    run = ctx.store.create("train", "", spec.model_dump(mode="json"))
    folder = ctx.workspace.run(run) / "adapter"
    folder.mkdir()
    spec.adapter.attach(make_model(), seed=0).save(folder)  # type: ignore[attr-defined]
    (folder.parent / "spec.yaml").write_text(spec.to_yaml())
    ctx.store.append(run, Made("adapter", str(folder), 3), Finished(status))  # type: ignore[arg-type]
    ctx.store.flush()
    return run


def told(ctx: Context, run: str, name: str) -> tuple[Any, str]:
    """The last values of the panel and of what is said."""
    return list(folding.saved(ctx, run, name, Wishes(), "page"))[-1]


def test_it_is_offered_where_a_run_that_is_over_made_an_adapter_that_can_be_folded(ctx: Context, pico_folder: Path) -> None:
    offers = {status: ctx.store.run(made(ctx, pico_folder, status=status)) for status in ("finished", "stopped", "failed")}
    assert [folding.offers(ctx, run) for run in offers.values()] == [True, True, False]
    assert not folding.offers(ctx, None)
    assert not folding.offers(ctx, ctx.store.run(made(ctx, pico_folder, "parallel_adapter")))
    empty = ctx.store.create("train", "", TrainSpec().model_dump(mode="json"))
    ctx.store.append(empty, Finished("stopped"))
    ctx.store.flush()
    assert not folding.offers(ctx, ctx.store.run(empty))
    buttons = dict(zip(BUTTONS, offered(ctx, offers["stopped"]), strict=True))
    assert [name for name, button in buttons.items() if not button.visible] == ["compare"]
    assert buttons["take"].link == f"/take/{offers['stopped'].id}.zip"


def test_a_merge_is_named_by_its_model_and_a_training_run_by_its_number(ctx: Context, pico_folder: Path) -> None:
    assert folding.reference(ctx.store.run(made(ctx, pico_folder))) == "run:0001"
    merge = ctx.store.create("merge", "", MergeSpec(name="both", models=[{"model": "pocket"}]).model_dump(mode="json"))
    ctx.store.flush()
    assert folding.reference(ctx.store.run(merge)) == "model:both"


def test_it_says_how_far_it_is_and_where_the_model_is(ctx: Context, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFRESH", 0.0)
    *on_the_way, (panel, said) = folding.saved(ctx, made(ctx, pico_folder), "clever", Wishes(), "page")
    assert all('role="status"' in markup for _, markup in on_the_way) and "writing clever" in on_the_way[-1][1]
    assert not panel.visible and str(ctx.workspace.model("clever")) in said and "Merge and Compare list it" in said
    assert (ctx.workspace.model("clever") / "config.json").exists()


def test_a_mistake_is_a_card_and_the_name_stays(ctx: Context, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(ctx, pico_folder)
    ctx.workspace.model("taken").mkdir()
    for name, words in (("taken", "Choose another name"), ("", "cannot be a name"), ("<b>", "&lt;b&gt;")):
        panel, said = told(ctx, run, name)
        assert 'role="alert"' in said and words in said and "visible" not in panel

    def full(*_: object) -> Iterator[Progress]:
        raise torch.OutOfMemoryError("out of memory")
        yield

    monkeypatch.setattr(folding, "fold", full)
    assert "ran out of memory" in told(ctx, run, "other")[1]
    ctx.store.delete(run)
    assert "There is no run" in told(ctx, run, "other")[1]


def test_who_leaves_it_gets_no_model_and_no_more_words(ctx: Context, pico_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFRESH", 0.0)
    wishes = Wishes()
    work = folding.saved(ctx, made(ctx, pico_folder), "clever", wishes, "page")
    for _ in range(3):
        next(work)
    wishes.begin("page")
    assert list(work) == [] and list(ctx.workspace.model().iterdir()) == []
