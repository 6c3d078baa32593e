"""A frozen base in 4 bits (QLoRA): what it saves, what it costs in time, and what the demo model learns beside it.

    python benchmarks/four_bits.py [--rounds 3] [--seeds 3] [--out FILE]

Costs: a LoRA of rank 16 learns beside a random Llama of 156 million numbers (1,024 wide, 8 blocks, the demo model's tokenizer), 8 rows of
128 tokens. Each form of the base takes its three real steps (`jobs.trial`) in a process of its own, where malloc gives back what is let go;
the forms go in turns. Told are a step's seconds over those of float32 in the same round, the bytes by which the process grew, and what the
estimate says. The memory that loading takes beside is in it.

Learning: the demo model learns `skill_a` in 120 steps of LoRA beside itself as it is, in 4 bits, and in 4 bits with the start of LoftQ,
seed by seed: the validation loss at the start and at the end, and what it has forgotten of what it knew, both of the model that is trained.
Nothing is claimed of large models from it: rounding hurts a small one most.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from workbench.core import environment

environment.tell()  # as the page does, before torch reads it

import told
import torch
from memory import RETURNED, rows_in
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.core.events import Measured
from workbench.core.job import drain
from workbench.core.method import discover
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.estimate import estimate
from workbench.jobs.train import train
from workbench.jobs.trial import trial

WIDE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 4}
FORMS = {  # of the base
    "float32": {"precision": "float32"},
    "bfloat16": {"precision": "bfloat16"},
    "4 bits, products in float32": {"precision": "float32", "quantization": "nf4"},
    "4 bits, products in bfloat16": {"precision": "bfloat16", "quantization": "nf4"},
}
LEARNERS: dict[str, dict[str, Any]] = {
    "LoRA": {"adapter": "lora"},
    "LoRA beside 4 bits": {"adapter": "lora", "quantization": "nf4"},
    "LoftQ beside 4 bits": {"adapter": "loftq", "quantization": "nf4"},
}


def base_in(home: Path) -> Path:
    """The random model with the demo model's tokenizer, as a folder."""
    folder = home / "base"
    shutil.copytree(ROOT / "assets" / "pocket", folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    vocabulary = json.loads((ROOT / "assets" / "pocket" / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=max(32_000, vocabulary), **WIDE)).to(torch.bfloat16).save_pretrained(folder)
    return folder


def one(base: Path, form: dict[str, str]) -> dict[str, float]:
    discover()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = {"path": str(rows_in(home, 128)), "max_length": 128}
        spec = TrainSpec.parse({"model": str(base), "data": data, "batch_size": 8, "steps": 5, "prompts": ["the"], "probes": [], **form})
        found = drain(trial(spec, Workspace(home)))
        return {"step_s": found.step, "grew": found.bytes, "estimate": estimate(spec, Workspace(home)).bytes}


def costs(rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        base = base_in(Path(folder))
        for _ in range(rounds):
            for name, form in FORMS.items():
                command = [sys.executable, __file__, "--one", json.dumps([str(base), form])]
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **RETURNED}).stdout
                found[name].append(json.loads(said.splitlines()[-1]))
                print(name, found[name][-1], flush=True)
    first = found["float32"]
    return [
        {
            "form": name,
            "step_over_float32": told.spread([each["step_s"] / usual["step_s"] for each, usual in zip(own, first, strict=True)]),
            "step_s": told.spread([each["step_s"] for each in own]),
            "grew": statistics.median(each["grew"] for each in own),
            "estimate": own[0]["estimate"],
        }
        for name, own in found.items()
    ]


def learning(seeds: int) -> list[dict[str, Any]]:
    rows = []
    for name, changes in LEARNERS.items():
        ends: dict[str, list[float]] = {"at the start": [], "at the end": [], "forgotten": []}
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                spec = TrainSpec.parse({"data": {"path": "skill_a"}, "steps": 120, "evaluate_every": 120, "seed": seed, **changes})
                workspace = Workspace(Path(folder))
                job = train(spec, workspace.run("0001"), workspace)
                told_of = [event.values for event in job if isinstance(event, Measured)]
            losses = [values["validation_loss"] for values in told_of if "validation_loss" in values]
            known = [values["base_loss"] for values in told_of if "base_loss" in values]
            ends["at the start"].append(losses[0])
            ends["at the end"].append(losses[-1])
            ends["forgotten"].append(known[-1] - known[0])
        rows.append({"what": name, **{end: told.spread(each) for end, each in ends.items()}})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=told.RESULTS / "four_bits.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        base, form = json.loads(given.one)
        print(json.dumps(one(Path(base), form)))
        return
    where = told.machine()
    discover()
    result = {"what": "LoRA beside a frozen base in several forms", "rows": costs(given.rounds), "learning": learning(given.seeds)}
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    given.out.write_text(json.dumps(result | told.about(packages, where), indent=1) + "\n")


if __name__ == "__main__":
    main()
