"""Training on one GPU, end to end: real tokens a second of LoRA, the workbench beside Trainer + peft, Liger, Apple's CCE and Unsloth.

    python benchmarks/train_gpu.py [--shape Qwen2.5-0.5B] [--rounds 5] [--only "trainer,workbench packed"] [--out FILE]
    python benchmarks/train_gpu.py --shape tiny --rounds 2 --steps 2 --out /tmp/tiny.json          does it run? Without a GPU too, a minute

All learn the same chat-like rows with LoRA r 32 on all linear matrices of the same random weights (`train_gpu_case.py`), in
bfloat16 with adapters in float32, with torch's fused AdamW, without recomputing activations. Trainer + peft, padded, is 1.00. By length:
the same with batches of rows of like length. Liger and Apple CCE are the trainer by length, patched; Unsloth is its own model under the
same trainer. The workbench packs. Probes are off: what they cost is in `probe.py`. What is not installed here is said to be missing.

Each contender has a process of its own, because patches reach every model of a process, and all are alive at once. They take turns, to
and fro: a turn is one step that does not count and `--steps` that do, between two moments when the GPU has nothing left to do; the
others wait, with their caches handed back. Ratios are taken within a round. Padding is not counted. Loading, saving and
evaluation are outside the clock. A run counts only if Adam's second moments show a gradient, LoRA's B has left zero, and what was saved
has a lower loss than the base on 32 rows. Beside the figures stands what the machine could do at best
(`workbench_kernels/roofline.py`), from its own products and copies.

On a GPU machine without network and without pydantic (python 3.12, torch, transformers, peft and accelerate are there), carry wheels:

    for name in pydantic==2.14.3 pydantic_core==2.50.4 annotated-types typing-inspection typing-extensions orjson py3langid rensa \\
        liger-kernel==0.8.5 cut-cross-entropy==25.1.1; do python3 -m pip download -q --no-deps --only-binary=:all: \\
        --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 -d .whl $name; done
    there: pip install -q --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site
           && python benchmarks/train_gpu.py --shape Qwen2.5-0.5B --out $OUT/train_gpu_qwen2.5-0.5b.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import told
import torch
import train_gpu_case as case
from train_gpu_ways import BY_LENGTH, CONTENDERS, LIGER, NEEDS, OURS, TRAINER, UNSLOTH, Turns
from workbench_kernels import roofline

from workbench.core.method import discover

PACKAGES = ("torch", "triton", "transformers", "peft", "accelerate", "liger-kernel", "cut-cross-entropy", "unsloth")
SPEEDS = {"Qwen2.5-0.5B": 110_000, "Llama-3.2-1B": 65_000, "Llama-3.1-8B": 13_000}  # goals in tokens a second on an H200
Rounds = list[dict[str, Any]]  # of each contender what its turn took
RATIOS = {TRAINER: 3.0, BY_LENGTH: 1.35, LIGER: 1.15, UNSLOTH: 1.0}  # goals: times as fast as these, on Qwen2.5-0.5B


# One process for each contender.


def measure(contender: str, home: Path, name: str, rounds: int, steps: int) -> None:
    turns = Turns(rounds, steps)
    with tempfile.TemporaryDirectory() as folder:
        CONTENDERS[contender](home, name, Path(folder), turns)
        turns.say(case.what_was_learnt(home, Path(folder)))


class Worker:
    """A contender's process as its parent sees it; `why` it is no longer there, if it is not."""

    def __init__(self, contender: str, home: Path, name: str, rounds: int, steps: int):
        self.log = (home / f"{contender.replace(' ', '_')}.log").open("w+")
        command = [sys.executable, __file__, "--measure", contender, "--home", str(home), "--shape", name]
        command += ["--rounds", str(rounds), "--steps", str(steps)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=case.offline()
        )  # fmt: skip
        self.why = ""
        self.hear()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            self.why = self.why or (self.log.read().strip().splitlines() or ["it ended without a word"])[-1]
        return json.loads(line or "{}")

    def turn(self) -> dict[str, Any]:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.hear()


def measured(home: Path, name: str, names: list[str], rounds: int, steps: int) -> tuple[Rounds, dict[str, Any], dict[str, str]]:
    """(rounds, what each learnt, why some could not be measured)."""
    missing = {one: why for one in names if (why := absent(one))}
    workers = {}
    for one in names:
        if one not in missing:
            workers[one] = Worker(one, home, name, rounds, steps)
            print(f"{one}: {workers[one].why or 'ready'}", flush=True)
    found: Rounds = []
    for number in range(1, rounds + 1):
        turns = {}
        for one in list(workers)[:: 1 if number % 2 else -1]:
            if not workers[one].why:
                turns[one] = workers[one].turn()
        found.append({one: turns[one] for one in names if turns.get(one)})
        print(f"round {number}: " + ", ".join(f"{one} {it['tokens'] / it['seconds']:.0f}" for one, it in found[-1].items()), flush=True)
    proofs = {one: worker.hear() for one, worker in workers.items() if not worker.why}
    missing |= {one: worker.why for one, worker in workers.items() if worker.why}
    return [{one: turn for one, turn in turns.items() if one not in missing} for turns in found], proofs, missing


def absent(name: str) -> str:
    """Why a contender cannot be measured here, or nothing."""
    if name in NEEDS and told.device() == "cpu":
        return "needs a GPU"
    return f"{NEEDS[name]} is not installed" if name in NEEDS and find_spec(NEEDS[name]) is None else ""


# The figures.


def floors(name: str, learnt_share: float) -> dict[str, float]:
    """What this GPU could reach at best, in real tokens a second: products and traffic beside each other, and one after the other."""
    if told.device() == "cpu":
        return {}
    ceilings, config = roofline.measured_ceilings(torch.device(told.device()), case.numbers()), case.SHAPES[name].config
    heads, width = config["num_attention_heads"], config["hidden_size"]
    shape = roofline.Shape(
        config["num_hidden_layers"], width, config["intermediate_size"], heads, config["num_key_value_heads"], width // heads,
        config["vocab_size"],
    )  # fmt: skip
    size = case.numbers().itemsize
    work = roofline.total(roofline.step(shape, case.PACK, case.PACK, case.RANK, learnt_share, size).values())
    return {
        "tokens a second at best, beside each other": case.PACK / roofline.floor_seconds(work, ceilings),
        "tokens a second at best, one after the other": case.PACK / roofline.serial_seconds(work, ceilings),
        "TFLOP a second": ceilings.flops / 1e12,
        "GB a second": ceilings.bytes_per_s / 1e9,
    }


def summary(found: Rounds, proof: dict[str, Any], name: str) -> dict[str, Any]:
    speeds = {one: [turns[one]["tokens"] / turns[one]["seconds"] for turns in found] for one in found[0]}
    return {
        "tokens_per_s": told.spread(speeds[name]),
        "over": {one: told.spread([own / theirs for own, theirs in zip(speeds[name], speeds[one], strict=True)]) for one in speeds},
        "cpu_share": told.spread([turns[name]["cpu_seconds"] / turns[name]["seconds"] for turns in found]),
        "peak_gib": max(turns[name]["peak_gib"] for turns in found),
        **proof,
    }


def trained(proof: dict[str, Any]) -> bool:
    return proof["gradient"] > 0 and proof["moved"] > 0 and proof["loss_after"] < proof["loss_before"]


def goals(shape: str, contenders: dict[str, Any]) -> list[dict[str, Any]]:
    ours = contenders[OURS]
    found = [told.goal(f"{OURS}: tokens a second", ours["tokens_per_s"][0], at_least=SPEEDS[shape])]
    wanted = {one: ratio for one, ratio in RATIOS.items() if one in ours["over"]} if shape == "Qwen2.5-0.5B" else {}
    return found + [told.goal(f"{OURS} over {one}", ours["over"][one][0], at_least=ratio) for one, ratio in wanted.items()]


def table(result: dict[str, Any]) -> str:
    lines = ["| | tokens/s | over the trainer | peak GiB | gradient | moved | loss |", "|---|" + "---:|" * 6]
    for name, found in result["contenders"].items():
        speed = "{:.0f} ({:.0f}–{:.0f})".format(*found["tokens_per_s"])
        over = "{:.2f} ({:.2f}–{:.2f})".format(*found["over"][TRAINER]) if TRAINER in found["over"] else ""
        proof = f"{found['gradient']:.2g} | {found['moved']:.2g} | {found['loss_before']:.3f} → {found['loss_after']:.3f}"
        lines.append(f"| {name} | {speed} | {over} | {found['peak_gib']:.1f} | {proof} |")
    lines += [f"not measured: {name}, {why}" for name, why in result["missing"].items()]
    lines += [f"this GPU, {what}: {value:.0f}" for what, value in result["floors"].items()]
    return "\n".join(lines + told.in_words(result["goals"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=case.SHAPES, default="Qwen2.5-0.5B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn that count")
    parser.add_argument("--only", default=",".join(CONTENDERS), help="contenders, with commas between")
    parser.add_argument("--out", type=Path, help="else benchmarks/results/train_gpu_SHAPE.json")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    discover()
    if given.measure:
        measure(given.measure, given.home, given.shape, given.rounds, given.steps)
        return
    where = told.machine()
    with tempfile.TemporaryDirectory() as folder:
        case.make(Path(folder), given.shape, given.rounds * (given.steps + 1))
        rows = case.about(Path(folder))
        found, proofs, missing = measured(Path(folder), given.shape, given.only.split(","), given.rounds, given.steps)
    untrained = {name: proof for name, proof in proofs.items() if not trained(proof)}
    if untrained:
        raise SystemExit(f"These did not train, so their speed means nothing: {untrained}")
    contenders = {name: summary(found, proof, name) for name, proof in proofs.items()}
    result = {
        "what": "real tokens a second of training LoRA r 32 on one GPU; lists are [median, least, most] of the rounds",
        "shape": given.shape,
        "rows": rows,
        "contenders": contenders,
        "missing": missing,
        "floors": floors(given.shape, rows["learnt_share"]),
        "goals": goals(given.shape, contenders) if "H200" in where and OURS in contenders else [],
        "rounds": found,
        **told.about(PACKAGES, where),
    }
    out = given.out or told.RESULTS / f"train_gpu_{given.shape.lower()}.json"
    told.keep(result, out)
    print(f"{table(result)}\n→ {out}")


if __name__ == "__main__":
    main()
