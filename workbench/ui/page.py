"""The page: the frame that is always there, the seven tabs inside it, and what survives a reload.

A run's state lives in the runner and the store. Here only two things are kept: the tab (in the address) and the draft of
the spec (in the browser, under a key that a restart of the program does not change). Draws nothing of a tab itself.
Elements for tests: `titlebar piece live tabs`, chips `chip-model …`, tab panes `tab-data …`, tab buttons `tab-data-button …`.
"""

import json
import secrets
from typing import Any

import gradio as gr

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.ui.bench import TABS, Bench, first_spec, make_bench
from workbench.ui.cards import escaped
from workbench.ui.context import Context
from workbench.ui.forms import READER, WRITER
from workbench.ui.frame import chips, live_lines, piece, title_bar
from workbench.ui.tabs import adapter, compare, data, merge, papers, runs, train

BUILDERS = {"data": data, "adapter": adapter, "train": train, "merge": merge, "compare": compare, "runs": runs, "papers": papers}


def build_page(ctx: Context) -> gr.Blocks:
    """The whole page over one store, runner and workspace."""
    with gr.Blocks(title="Finetune Workbench", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as page:
        tabs = gr.Tabs(selected="train", elem_id="tabs", render=False)
        bench = make_bench(tabs)
        title_bar(ctx)
        shown = piece(first_spec())
        lines = live_lines(ctx)
        tabs.render()
        with tabs:
            for name in TABS:
                with gr.Tab(name.capitalize(), id=name, elem_id=f"tab-{name}") as tab:
                    BUILDERS[name].build(ctx, bench)
                tab.select(None, js=f"() => Workbench.address('tab', '{name}')")
        _wire_frame(ctx, bench, shown, lines)
        _wire_memory(page, bench, gr.BrowserState(None, storage_key="workbench-draft", secret=draft_key(ctx.workspace)))
    return page


def _wire_frame(ctx: Context, bench: Bench, shown: gr.HTML, lines: gr.HTML) -> None:
    """Chips follow the spec, and the buttons of the frame do what they say."""

    def steer(event: gr.EventData) -> None:
        actions = {"pause": ctx.runner.pause, "play": ctx.runner.play, "stop": ctx.runner.stop}
        try:
            actions[event.do](event.run)
        except WorkbenchError as error:
            gr.Warning(escaped(error))

    bench.spec.change(chips, bench.spec, shown, trigger_mode="always_last", **READER)
    shown.go(go, None, bench.tabs, **READER)
    lines.go(go, None, bench.tabs, **READER)
    lines.steer(steer, None, None, **WRITER)


def go(event: gr.EventData) -> gr.Tabs:
    """To the tab that a button names."""
    return gr.Tabs(selected=event.tab if event.tab in TABS else "train")


def _wire_memory(page: gr.Blocks, bench: Bench, draft: gr.BrowserState) -> None:
    """Keep the draft in the browser; bring tab and draft back when the page is loaded.

    A draft with mistakes is not kept, so the browser always holds the last one that could be started. `loaded` is counted
    up in any case: it is the sign for all forms to draw themselves. The tab is chosen without asking the server, whose answer
    could come after a person has gone elsewhere.
    """

    def restore(kept: dict[str, Any] | None) -> tuple[Any, ...]:
        return kept if readable(kept) else gr.skip(), 1

    page.load(None, None, bench.tabs, js=f"() => Workbench.opened({json.dumps(list(TABS))})")
    before = "(kept) => { Workbench.recallTheme(); return kept; }"
    page.load(restore, draft, [bench.spec, bench.loaded], js=before, **WRITER)
    bench.spec.change(lambda spec: spec if readable(spec) else gr.skip(), bench.spec, draft, trigger_mode="always_last", **READER)


def readable(kept: Any) -> bool:
    """Whether a draft, perhaps from an earlier version, is a whole spec that could be started."""
    if not isinstance(kept, dict) or set(kept) != set(TrainSpec.model_fields):
        return False
    try:
        TrainSpec.parse(kept)
    except SpecError:
        return False
    return True


def draft_key(workspace: Workspace) -> str:
    """The key under which browsers keep the draft of this workspace: made once, kept in HOME/page.key."""
    path = workspace.database.parent / "page.key"
    if not path.exists():
        path.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii").strip()
