"""What the killed share: a fork server that has everything imported, and a spec for a pico model in a folder."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from pico import make_model
from reliability.kills import Start, Victim
from transformers import PreTrainedTokenizerFast

from workbench.materials.world.skills import World

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """A server whose children have torch and every method at hand, and no thread and no database of ours."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reliability.victims"])
    with pytest.MonkeyPatch.context() as patch:  # the server is told where to look in no other way
        patch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / folder) for folder in (".", "kernels", "tests")))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def start(forks: ForkServerContext) -> Iterator[Start]:
    """`start(does, home, wanted)`: a process that does it; it tells through a pipe, its third argument."""
    victims: list[Victim] = []

    def begin(does: Callable[..., None], home: Path, wanted: Any, **named: Any) -> Victim:
        ours, theirs = forks.Pipe(duplex=False)
        process = forks.Process(target=does, args=(home, wanted, theirs), kwargs=named)
        process.start()
        theirs.close()
        victims.append(Victim(process, ours))
        return victims[-1]

    yield begin
    for victim in victims:
        victim.process.kill()
        victim.process.join()
        victim.pipe.close()


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory, pico_tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A run of a pico model of one layer with dropout, so that the random state matters; a step takes some milliseconds."""
    folder = tmp_path_factory.mktemp("base")
    make_model(num_hidden_layers=1).save_pretrained(folder / "pico")
    pico_tokenizer.save_pretrained(folder / "pico")
    rows = World().rows("tale", 40, seed=0, held_out=False)
    (folder / "tale.jsonl").write_text("".join(json.dumps({"messages": row.messages()}) + "\n" for row in rows))
    return {
        "kind": "train", "model": str(folder / "pico"), "data": {"path": str(folder / "tale.jsonl"), "max_length": 48},
        "adapter": {"method": "lora", "rank": 4, "dropout": 0.1, "targets": "attention"}, "update": {"method": "adamw", "lr": 1e-2},
        "probes": ["gradient_norm", {"method": "step_safety", "share": 1.0}, "forgetting"],  # none leaves a reading out to save time
        "steps": 72, "batch_size": 2, "evaluate_every": 5, "sample_every": 18, "checkpoint_every": 6, "prompts": ["Where is Kori?"],
        "changes": [{"at": 13, "set": {"update.lr": 5e-3}}, {"at": 30, "set": {"update.beta1": 0.8}}],
    }  # fmt: skip
