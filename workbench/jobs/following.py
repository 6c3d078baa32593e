"""A process that takes the steps of a run which is another process's: the program behind `jobs/together.py`.

What it is: the run's own code (`Run.advance`) on its share of every window, step by step as it is told on stdin. It reads no probe,
evaluates nothing, answers nobody and writes nothing; what it would have to say, process 0 has said. When stdin closes it ends at once,
wherever it is, because nobody is there any more whom it works for. What it is not: a run of its own.
"""

import json
import os
import pickle
import queue
import sys
import threading
from dataclasses import replace
from pathlib import Path

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.parts import Change
from workbench.jobs import checkpoint
from workbench.jobs.leading import Hello
from workbench.jobs.prepare import base_of
from workbench.jobs.probing import Probing
from workbench.jobs.quickening import warm
from workbench.jobs.studying import attached
from workbench.jobs.together import Together, ready
from workbench.jobs.train import Run
from workbench.materials.models import load
from workbench.materials.precision import place

Orders = queue.SimpleQueue[list[dict[str, object]]]


def made(hello: Hello) -> Run:
    """The run as process 0 has it before its first step, or where its checkpoint left it; alone as yet."""
    spec, folder, workspace = hello.spec, hello.folder, hello.workspace
    model = load(base_of(spec, workspace), place()[0], hello.weights, spec.quantization == "nf4")
    prepared = replace(hello.prepared, model=model)
    run = Run(spec, folder, prepared, drain(attached(spec, prepared, folder, workspace)))
    drain(warm(prepared, spec, run.attachment))
    run.probing = Probing([], clock=run.clock)
    checkpoint.set_random_state(run.random)
    return run


def follow(run: Run, orders: Orders) -> None:
    """Take every step that is asked for. Whoever asks ends it."""
    while True:
        run.steering.taken = [Change(**change) for change in orders.get()]  # type: ignore[arg-type]
        for _ in run.turn(run.step + 1):
            pass
        run.advance()


def listen(orders: Orders) -> None:
    """Hear what process 0 says for as long as it is there."""
    for line in sys.stdin:
        orders.put(json.loads(line))
    os._exit(1)  # from here, because the main thread may be waiting for a sum that never comes


def main() -> None:
    orders: Orders = queue.SimpleQueue()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()
    path, rank, size, meeting = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    try:
        with path.open("rb") as file:
            run = made(pickle.load(file))
        with Together(rank, size, run.prepared.model.device, meeting) as group:
            group.store.set(ready(rank), "")
            group.join()
            group.compare(run.attachment, 0, 1)
            run.group = run.objective.group = group
            follow(run, orders)
    except WorkbenchError as error:
        sys.exit(str(error))
