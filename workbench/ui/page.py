"""The page: the frame that is always there, and the seven tabs inside it.

A run's state lives in the runner and the store; what a page keeps in the browser, `refreshed.py` says. Draws nothing of a tab itself.
Elements for tests: `titlebar piece live tabs`, chips `chip-model …`, tab panes `tab-data …`, tab buttons `tab-data-button …`.
"""

import gradio as gr

from workbench.core.errors import WorkbenchError
from workbench.ui import refreshed
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
        refreshed.wire(page, bench, ctx.workspace)
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
