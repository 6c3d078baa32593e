"""What Gradio keeps of a page in numbered lists, put right where people work faster than it draws: handlers and components.

**A handler that is no more.** Whenever a `gr.render` is drawn again Gradio gives its handlers new numbers and forgets the old ones at once,
while the page shows the old form for the tenth of a second that the new one is on its way. A click in that time asks for a number that is
gone: `get_fn` raises, the server answers 500 and the page shows an error (read in gradio 6.31: renderable.py, route_utils.py, and
dependency.ts, which forgets no old number of a component). The form that was clicked is about to be replaced by what the server holds, so
there is nothing left to do for it: what it would have written is not what stands there a moment later. Numbers are never given twice, so no
click reaches another handler. So it is answered with nothing, and nobody is told of an error.

**A component under two numbers.** What a handler changes of a component Gradio makes anew, with a number of its own, and files under the
old one; when the next handler reads it, it is filed a second time under its own (read in 6.31: `postprocess_data` and `preprocess_data` in
blocks.py). So the list grows with every change, and it grows while another thread walks through it because it has drawn a form:
"dictionary changed size during iteration". Here a component has the number under which it is filed, and only what is drawn is added.

What it is not: a way to hide mistakes. A handler that is there and fails is told as before.
"""

import gradio as gr
from gradio.blocks import Block, BlockFunction


class Handlers(dict[int, BlockFunction]):
    """The handlers of a page by number, of which Gradio copies this for each session; `gone` stands in for those that were taken away."""

    gone: BlockFunction

    def __missing__(self, number: int) -> BlockFunction:
        return self.gone


class Parts(dict[int, Block]):
    """The components of a page by number, of which Gradio copies this for each session; what is filed under a number has that number."""

    def __setitem__(self, number: int, part: Block) -> None:
        part._id = number
        super().__setitem__(number, part)


def forgive(page: gr.Blocks) -> None:
    """From now on what is asked of a handler of this page that is gone is answered with nothing, and its components keep their numbers."""
    config = page.default_config
    config.blocks = Parts(config.blocks)
    gone, number = config.set_event_trigger([], lambda: None, None, None, queue=False, concurrency_limit=None, api_visibility="private")
    del config.fns[number]
    handlers = Handlers(config.fns)
    handlers.gone = gone
    config.fns = handlers
