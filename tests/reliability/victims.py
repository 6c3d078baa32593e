"""Processes that are killed: what they do meanwhile, what they tell, and the places at which they kill themselves.

A fork server imports this file once, with torch and every method, so that a trial costs a fork and no start of its own.
Places are named by what the libraries do there (torch, safetensors, the operating system), not by our own functions.
"""

import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas  # noqa: F401  (DuckDB imports it at the first frame)
import safetensors.torch
import torch
from accelerate import Accelerator
from transformers.models.llama.modeling_llama import LlamaModel

from workbench.core.events import Event, Finished, Made, Measured, Said
from workbench.core.job import Job
from workbench.core.method import discover
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.checkpoint import whole
from workbench.jobs.registry import JOBS
from workbench.runs import store as stores
from workbench.runs.runner import Runner
from workbench.runs.store import Store
from workbench.runs.writer import Writer

discover()
torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))  # torch imports half a second's worth at the first call
gc.freeze()  # what is shared with the children is left alone

ANY = "at any moment"  # a place of its own: somebody else kills
PATIENCE = 4  # steps that a run which somebody else is to kill takes meanwhile, at most
STAND = {"reached": 0, "deadly": 0, "last": 10**9}  # the run's step, the first one at which a trap is open, and where it waits


# Traps.


def die() -> None:
    """At once, if the run has come as far as it should."""
    if STAND["reached"] >= STAND["deadly"]:
        os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, here: Callable[..., bool] = lambda *_, **__: True) -> None:
    plain = getattr(owner, name)

    def trapped(*given: Any, **named: Any) -> Any:
        if here(*given, **named):
            die()
        return plain(*given, **named)

    setattr(owner, name, trapped)


def after(owner: Any, name: str, here: Callable[..., bool] = lambda *_, **__: True) -> None:
    plain = getattr(owner, name)

    def trapped(*given: Any, **named: Any) -> Any:
        result = plain(*given, **named)
        if here(*given, **named):
            die()
        return result

    setattr(owner, name, trapped)


def half_written(folder: str) -> None:
    """A safetensors file in a folder of that name ends in its middle."""
    plain = safetensors.torch.serialize_file

    def trapped(tensors: Any, filename: Any, metadata: Any = None) -> None:
        plain(tensors, filename, metadata=metadata)
        if Path(filename).parent.name == folder and STAND["reached"] >= STAND["deadly"]:
            os.truncate(filename, os.path.getsize(filename) // 2)
            die()

    safetensors.torch.serialize_file = trapped


def goes_on(_: Any, **named: Any) -> bool:
    """A forward pass of `generate`, which goes on from what it has read."""
    return named.get("past_key_values") is not None


def looks(model: Any, **named: Any) -> bool:
    return not torch.is_grad_enabled() and not goes_on(model, **named)


def out_of_partial(source: Any, target: Any) -> bool:
    return Path(source).name.endswith(".partial")


def of_a_checkpoint(source: Any, target: Any) -> bool:
    return Path(target).name == "state.safetensors"


PLACES: dict[str, Callable[[], None]] = {
    "with its gradients complete": lambda: after(Accelerator, "backward"),
    "with half a step taken": lambda: after(torch.optim.AdamW, "step"),
    "in an evaluation": lambda: before(LlamaModel, "forward", looks),
    "in an answer": lambda: before(LlamaModel, "forward", goes_on),
    "in a checkpoint": lambda: half_written("checkpoint"),
    "before a checkpoint is in its place": lambda: before(os, "replace", of_a_checkpoint),
    "after a checkpoint is in its place": lambda: after(os, "replace", of_a_checkpoint),
    "in an adapter": lambda: half_written("adapter.partial"),
    "before a folder is in its place": lambda: before(os, "rename", out_of_partial),
}


# A run.


def told(work: Callable[..., Iterator[Event]]) -> Callable[..., Iterator[Event]]:
    """The job, with an eye on where it stands, so that a trap can wait for a step."""

    def watched(*given: Any) -> Iterator[Event]:
        for event in work(*given):
            if isinstance(event, Measured):
                STAND["reached"] = event.step
            yield event
            while STAND["reached"] >= STAND["last"]:
                time.sleep(1)

    return watched


def work(home: Path, wanted: dict[str, Any] | str, pipe: Connection, place: str = "", step: int = 0, every: float = 0.25) -> None:
    """Run a spec, or go on with a run; tells `("reached", step)`, and `("written", step)` for what is surely on record.

    place, step: where it kills itself, from which step on. every: seconds between two writes of the store; from 1 on, it does
    not ask for others.
    """
    torch.set_num_threads(1)
    STAND["deadly"] = step
    if place == ANY:
        STAND["last"] = step + PATIENCE
    elif place:
        PLACES[place]()
    stores.Writer = partial(Writer, every=every)  # type: ignore[misc]
    workspace, jobs = Workspace(home), {kind: Job(told(job.work), job.lane) for kind, job in JOBS.items()}
    with Store(workspace.database) as store, Runner(store, workspace, jobs) as runner:
        run = runner.submit(parse_spec(wanted)) if isinstance(wanted, dict) else runner.resume(wanted)
        for event in runner.watch(run):
            if isinstance(event, Measured) and "loss" in event.values:
                pipe.send(("reached", event.step))
                if every < 1 and event.step % 10 == 0:
                    store.flush()
                    pipe.send(("written", event.step))


# A database.


PIECES = 20


def value(run: str, step: int) -> float:
    return int(run) + step / 1024


def write(home: Path, seed: int, pipe: Connection) -> None:
    """Lives of runs, one after the other, in a store that is closed and opened now and then; tells what is surely on record."""
    chance, workspace = random.Random(seed), Workspace(home)
    while True:
        with Store(workspace.database) as store:
            for _ in range(chance.randint(1, 4)):
                live(store, workspace, chance, pipe)


def live(store: Store, workspace: Workspace, chance: random.Random, pipe: Connection) -> None:
    run, first, last = store.create("train", "victim", {}), 1, chance.randint(5, 200)
    pipe.send(("created", run))
    for _ in range(chance.randint(1, 3)):  # tries: the later ones say again some of what the earlier ones said
        store.mark(run, "queued")
        store.mark(run, "running")
        for step in range(first, last + 1):
            store.append(run, Measured(step, {"loss": value(run, step), "twice": 2 * value(run, step)}), Said(step, "m", "p", str(step)))
            if chance.random() < 0.05:
                store.flush()
                pipe.send(("written", (run, step)))
        folder = workspace.run(run) / "adapter"
        if not folder.exists():
            pipe.send(("making", run))
            store.append(run, Made("adapter", str(whole(folder, partial(fill, run))), last))
        store.append(run, Finished("stopped"))
        store.flush()  # as the runner does before it goes on with a run
        first, last = max(1, last - 20), last + chance.randint(0, 20)
    store.append(run, Finished("finished"))
    store.flush()
    pipe.send(("finished", run))
    if chance.random() < 0.3:
        pipe.send(("deleting", run))
        store.delete(run)
        pipe.send(("deleted", run))


def fill(run: str, folder: Path) -> None:
    """An adapter in two files, the second slowly and in pieces: a kill may leave any of them."""
    (folder / "adapter_config.json").write_text("{}")
    with (folder / "adapter_model.safetensors").open("w") as file:
        for _ in range(PIECES):
            file.write(run)
            file.flush()
            time.sleep(0.002)
