"""What Gradio keeps of a page in numbered lists, put right where people work faster than it draws: handlers, components, states.

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
Of the handlers some come and go with each form, in its thread, while every handler that writes a state walks through all of them to see who
hears of it (`get_state_ids_to_track`); so who walks through them is given them as they are at that moment.

**A state that two handlers write.** A handler is given the states as they are when it begins, and what it returns takes their place when it
ends (`process_api`). Two that begin together, as when one field is left by pressing the next, both begin with the old state, and of what
the first wrote nothing is left. So a handler has the states that it writes to itself, and one that reads a state begins when those that
were asked before it have written theirs. A generator may go on for minutes, so it waits for its turn and takes none.

What it is not: a way to hide mistakes. A handler that is there and fails is told as before.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.blocks import Block, BlockFunction
from gradio.state_holder import SessionState


class Handlers(dict[int, BlockFunction]):
    """The handlers of a page by number, of which Gradio copies this for each session; `gone` stands in for those that were taken away."""

    gone: BlockFunction

    def __missing__(self, number: int) -> BlockFunction:
        return self.gone

    def values(self) -> list[BlockFunction]:  # type: ignore[override]
        return list(super().values())  # at one stroke: a form that is drawn meanwhile adds to the handlers, not to this


class Parts(dict[int, Block]):
    """The components of a page by number, of which Gradio copies this for each session; what is filed under a number has that number."""

    def __setitem__(self, number: int, part: Block) -> None:
        part._id = number
        super().__setitem__(number, part)


class Turns:
    """Whose turn it is at each state of each session."""

    def __init__(self) -> None:
        self._held: WeakKeyDictionary[SessionState, defaultdict[int, asyncio.Lock]] = WeakKeyDictionary()

    @asynccontextmanager
    async def of(self, handler: BlockFunction, session: SessionState) -> AsyncIterator[None]:
        """Wait for every state that the handler reads or writes, and keep those that it writes."""
        held = self._held.setdefault(session, defaultdict(asyncio.Lock))
        read = {part._id for part in handler.inputs if part.stateful}
        written = set() if handler.types_generator else {part._id for part in handler.outputs if part.stateful}
        async with AsyncExitStack() as own:
            async with AsyncExitStack() as passing:
                for number in sorted(read | written):  # in one order for all, so that nobody waits in a ring
                    await (own if number in written else passing).enter_async_context(held[number])
            yield


def forgive(page: gr.Blocks) -> None:
    """From now on what is asked of a handler of this page that is gone is answered with nothing, its components keep their numbers, and
    its handlers take turns at its states."""
    config = page.default_config
    config.blocks = Parts(config.blocks)
    gone, number = config.set_event_trigger([], lambda: None, None, None, queue=False, concurrency_limit=None, api_visibility="private")
    del config.fns[number]
    handlers = Handlers(config.fns)
    handlers.gone = gone
    config.fns = handlers
    turns, process = Turns(), page.process_api

    async def in_turn(block_fn: BlockFunction | int, inputs: list[Any], state: SessionState | None = None, **given: Any) -> dict[str, Any]:
        handler = page.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if state is None or given.get("iterator") is not None:  # the further pieces of a generator, which has had its turn
            return await process(handler, inputs, state, **given)
        async with turns.of(handler, state):
            return await process(handler, inputs, state, **given)

    page.process_api = in_turn  # type: ignore[method-assign]
