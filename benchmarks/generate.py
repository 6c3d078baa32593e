"""Four answers side by side: the job that Compare runs, held against four separate runs of transformers' `generate`. CPU only.

    python benchmarks/generate.py [--rounds 5] [--only pocket] [--out FILE]

A base and three LoRA runs on it (rank 16 on every matrix, random numbers) answer one prompt with the likeliest tokens; none of them ends
before its last token. Ours is everything that the job does from its first to its last token: one batch, the base's opinion of every token
of every answer, text and events. Theirs are four models with the LoRA folded in, asked one after the other, with the same threads in the
same process. They take turns; told are medians, the ratio of each pair of turns with its spread, and how many answers are not the same.
Memory and processor time are measured in a process of its own for each. Written to `benchmarks/results/generate.json`.

Goal: at most half the time.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import yaml
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from workbench.core.asking import CompareSpec
from workbench.core.events import Progress, Said, Started
from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.jobs.compare import compare
from workbench.jobs.machine import share_cores
from workbench.materials.models import load, resolve, tokenizer
from workbench.materials.precision import place
from workbench.materials.templates import prompt_ids

RESULT = ROOT / "benchmarks" / "results" / "generate.json"
POCKET = ROOT / "assets" / "pocket"
PROMPT = "Where does Mara live, and what does she keep in the garden?"
SHAPES: dict[str, dict[str, int] | None] = {  # None: the demo model itself
    "pocket": None,
    "127 M": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8},
    "363 M": {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 28},
}
TOKENS = {"pocket": 128, "127 M": 48, "363 M": 32}
RUNS, RANK, GOAL = 3, 16, 0.5


class Clock(BaseStreamer):
    """When a `generate` came to its first token."""

    def __init__(self) -> None:
        self.came: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        self.came.append(time.perf_counter())  # the first one is the prompt

    def end(self) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=SHAPES)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    discover()
    logging.disable_progress_bar()
    if given.alone:
        print(json.dumps(alone(*given.alone)))
        return
    rows = [measured(name, given.rounds) for name in SHAPES if given.only in (None, name)]
    about = {
        "what": f"a base and {RUNS} LoRA runs of rank {RANK} on every matrix answer one prompt; one batch, and one generate after another",
        "goal": f"at most {GOAL} of the time of four separate generate runs",
        "rounds": given.rounds,
        "rows": rows,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")} | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    given.out.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def measured(name: str, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        references, workspace = made(name, Path(folder))
        models = [load(resolve(reference, workspace), *place()) for reference in references]
        share_cores(models[0])
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "generate": []}
        for number in range(rounds + 1):
            for who in ("ours", "generate") if number % 2 else ("generate", "ours"):
                told = ours(references, workspace, TOKENS[name]) if who == "ours" else theirs(models, references, workspace, TOKENS[name])
                if number:  # the first round warms up
                    found[who].append(told)
        del models
        apart = {who: separate(who, name, folder) for who in found}
    ratios = [one["seconds"] / two["seconds"] for one, two in zip(found["ours"], found["generate"], strict=True)]
    firsts = [one["first_of_all"] / two["first_of_all"] for one, two in zip(found["ours"], found["generate"], strict=True)]
    texts = [(one["texts"], two["texts"]) for one, two in zip(found["ours"], found["generate"], strict=True)]
    row = {
        "model": name,
        "tokens": f"{TOKENS[name]} for each of four",
        **{who: {key: round(statistics.median(one[key] for one in of), 4) for key in of[0] if key != "texts"} for who, of in found.items()},
        "time over generate's": {"median": round(statistics.median(ratios), 3), "from": round(min(ratios), 3), "to": round(max(ratios), 3)},
        "time until all four have begun, over generate's": round(statistics.median(firsts), 3),
        "in processes of their own": apart,
        "answers that differ": sum(a != b for one, two in texts for a, b in zip(one, two, strict=True)),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(row, indent=1, ensure_ascii=False), flush=True)
    return row


def made(name: str, home: Path) -> tuple[list[str], Workspace]:
    """The base and its runs on disk, whose end mark is a token that nobody says."""
    base, workspace = home / "base", Workspace(home / "home")
    if not base.exists():
        shutil.copytree(POCKET, base)
        shape = SHAPES[name]
        if shape is not None:
            torch.manual_seed(0)
            heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": True}
            LlamaForCausalLM(LlamaConfig(vocab_size=32_000, bos_token_id=None, **heads, **shape)).save_pretrained(base)
        told = json.loads((base / "tokenizer_config.json").read_text())
        (base / "tokenizer_config.json").write_text(json.dumps(told | {"eos_token": told["pad_token"]}))
        for file in (base / "config.json", base / "generation_config.json"):
            if file.exists():
                file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": 0, "pad_token_id": 0}))
        for number in range(1, RUNS + 1):
            _run(base, workspace.run(f"{number:04}"), number)
    return [str(base), *(f"run:{number:04}" for number in range(1, RUNS + 1))], workspace


@torch.no_grad()
def _run(base: Path, folder: Path, seed: int) -> None:
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear")
    )
    torch.manual_seed(seed)
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.copy_(torch.randn_like(parameter) * 0.02)
    peft.save_pretrained(folder / "adapter")
    (folder / "spec.yaml").write_text(yaml.safe_dump({"model": str(base)}))


def ours(references: list[str], workspace: Workspace, tokens: int) -> dict[str, Any]:
    spec = CompareSpec(models=references, prompt=PROMPT, max_tokens=tokens, token_view=False)
    began = ended = 0.0
    firsts, texts = dict[str, float](), dict[str, str]()
    for event in compare(spec, workspace.run("0009"), workspace):
        now = time.perf_counter()
        if isinstance(event, Started):
            began = now
        elif isinstance(event, Said):
            firsts.setdefault(event.speaker, now - began)
            texts[event.speaker] = event.answer
            assert not event.done or len(event.tokens) == tokens, "an answer ended early"
        elif isinstance(event, Progress) and event.what == "tokens":
            ended = now
    return _told(ended - began, len(references) * tokens, [*firsts.values()], list(texts.values()))


@torch.no_grad()
def theirs(models: list[PreTrainedModel], references: list[str], workspace: Workspace, tokens: int) -> dict[str, Any]:
    reader = tokenizer(resolve(references[0], workspace))
    ids = torch.tensor([prompt_ids(reader, [{"role": "user", "content": PROMPT}])])
    began, firsts, texts = time.perf_counter(), list[float](), list[str]()
    for model in models:
        clock = Clock()
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
            streamer=clock,
        )  # fmt: skip
        firsts.append(clock.came[1] - began)
        texts.append(reader.decode(said[0, ids.shape[1] :]))
    return _told(time.perf_counter() - began, len(models) * tokens, firsts, texts)


def _told(seconds: float, tokens: int, firsts: list[float], texts: list[str]) -> dict[str, Any]:
    told = {"seconds": seconds, "tokens_per_s": tokens / seconds, "first_token": min(firsts), "first_of_all": max(firsts)}
    return {**told, "texts": texts}


def separate(who: str, name: str, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--alone", who, name, folder]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def alone(who: str, name: str, folder: str) -> dict[str, float]:
    """Resident memory that came with the models, at its peak, and processor seconds of one comparison with its loading."""
    references, workspace = made(name, Path(folder))
    before, used = resident("VmRSS"), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    if who == "ours":
        ours(references, workspace, TOKENS[name])
    else:
        models = [load(resolve(reference, workspace), *place()) for reference in references]
        share_cores(models[0])
        theirs(models, references, workspace, TOKENS[name])
    return {"peak MB above the program": round(resident("VmHWM") - before, 1), "CPU seconds": round(time.process_time() - used, 2)}


def resident(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1e3


if __name__ == "__main__":
    main()
