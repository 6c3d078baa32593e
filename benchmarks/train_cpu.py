"""Training on a CPU: real tokens a second of LoRA, the workbench beside transformers' Trainer and beside a bare loop.

    python benchmarks/train_cpu.py [--case 7M] [--rounds 5] [--steps 18] [--out FILE]
    python benchmarks/train_cpu.py --case 0.5B --rounds 2 --steps 9 --only "trainer,workbench packed"     a quarter of an hour

All contenders learn the same rows from the same weights (`train_cpu_case.py`): Trainer + peft in float32 with padded batches, which is
1.00; the same with batches grouped by length, and that once more in the numbers in which the workbench trains this model on this machine;
the workbench packed, in these numbers and in float32, and padded, with the probes that a spec has by default and without any; and a loop of
ten lines over the same model call, adapter, kernels, batches and optimizer as the workbench without probes has them padded, against which
the workbench's own cost is read. All use the threads that the workbench chooses, LoRA r 8 on all linear matrices and torch's fused
AdamW. All see every row once, those who pad without grouping in the same batches, and no padding is counted.

All but the last two are measured in a process each, because a contender leaves things behind: the number of threads, accelerate's state,
memory that the allocator keeps. There it first trains one step that does not count, on a model of its own; the clock then runs
from before the first batch is drawn until the last step is done. The last two, which are to be told apart within 3 %, share a
process and take turns step by step, without the first step; whatever slows the machine down meets both. Loading, evaluation,
samples and saving are outside the clock. The rounds go to and fro through the contenders, and ratios are taken within a round.
Of 9 steps the default probes read step safety in one and of 18 in two, about one in ten as in a long run; others may not.

A run counts only if Adam's second moments show a gradient, LoRA's B has left zero, and what was saved has a lower loss than the
base on the first 32 rows (read from disk, by transformers' own loss). Not measured: memory, quality, other threads and models.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
import train_cpu_case as case
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from workbench.core.events import Measured
from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.jobs.batches import Batches
from workbench.jobs.quickening import quicken
from workbench.jobs.train import train
from workbench.materials.odds import label_logp

RESULTS = ROOT / "benchmarks" / "results"
TRAINER, BY_LENGTH, BY_LENGTH_SAME = "trainer", "trainer by length", "trainer by length, same numbers"
PACKED, PACKED_FLOAT32, PADDED = "workbench packed", "workbench packed, float32", "workbench"
PACKED_UNPROBED, UNPROBED, BARE, IN_TURNS = "workbench packed, no probes", "workbench, no probes", "bare loop", "in turns"
GOALS = {  # (contender, held against): times as fast
    "7M": {(PACKED, TRAINER): 3.5, (PACKED, BY_LENGTH): 1.4, (UNPROBED, BARE): 0.97},
    "13M": {(PACKED, TRAINER): 4.5, (PACKED, BY_LENGTH): 2.0, (UNPROBED, BARE): 0.97},
    "0.5B": {(PACKED, TRAINER): 3.0, (UNPROBED, BARE): 0.97},
}

Clock = tuple[float, float]  # wall seconds, CPU seconds


@dataclass(frozen=True)
class Lap:
    """What a contender did within the clock. Its `folder` holds what it made: adapter/ of peft, and the optimizer's state."""

    spent: Clock
    tokens: int
    folder: Path

    def figures(self) -> dict[str, float]:
        wall, cpu = self.spent
        return {"tokens_per_s": self.tokens / wall, "tokens_per_cpu_s": self.tokens / cpu, "tokens": self.tokens}


def clock() -> Clock:
    return time.perf_counter(), time.process_time()


def between(began: Clock, ended: Clock) -> Clock:
    return ended[0] - began[0], ended[1] - began[1]


# The contenders. `steps` is 1 to warm up and 0 for one epoch.


def with_trainer(home: Path, out: Path, steps: int, by_length: bool, precision: str = "float32") -> Lap:
    """transformers' Trainer and peft as their guides have it, with nothing logged or saved on the way."""
    prepared = case.prepared_from(home, precision)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    torch.manual_seed(0)
    model = get_peft_model(prepared.model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
    batches = case.epoch_by_length(home, prepared.train) if by_length else case.epoch(home, prepared.train)
    arguments = TrainingArguments(
        output_dir=str(out), use_cpu=True, max_steps=steps or len(batches), per_device_train_batch_size=case.sizes_of(home)[0],
        learning_rate=case.RATE, max_grad_norm=case.CLIP, optim="adamw_torch_fused", lr_scheduler_type="constant",
        train_sampling_strategy="sequential", remove_unused_columns=False, logging_strategy="no", save_strategy="no", report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    times = Times()
    trainer = Trainer(model, arguments, DataCollatorForSeq2Seq(prepared.tokenizer), case.without_padding(batches), callbacks=[times])
    trainer.train()
    model.save_pretrained(out / "adapter")
    case.keep_state(trainer.optimizer, out)
    return Lap(between(times.began, times.ended), case.real_tokens(batches), out)


class Times(TrainerCallback):
    """From the start of the epoch, before the first batch is drawn, to the end of the newest step."""

    def on_epoch_begin(self, *given: Any, **more: Any) -> None:
        self.began = clock()

    def on_step_end(self, *given: Any, **more: Any) -> None:
        self.ended = clock()


def with_workbench(home: Path, out: Path, steps: int, packing: bool, probed: bool = True, precision: str = "auto") -> Lap:
    """The training job as everyone iterates it. Step 1 begins when the event before its own has been taken."""
    rows = case.rows_of(home)
    steps = steps or len(case.epoch(home, rows, packing))
    events = [(event, clock()) for event in train(case.spec_of(home, packing, probed, steps, precision), out, Workspace(home))]
    measured = [place for place, (event, _) in enumerate(events) if isinstance(event, Measured) and event.step > 0]
    last = next(place for place in measured if events[place][0].step == steps)  # the step's own; an evaluation's comes behind it
    return Lap(between(events[measured[0] - 1][1], events[last][1]), case.real_tokens(case.epoch(home, rows)), out)


def in_turns(home: Path, out: Path) -> dict[str, Lap]:
    """The workbench without probes and the bare loop, a step of the one and a step of the other; the first steps do not count."""
    batches = case.epoch(home, case.rows_of(home))
    runs = {
        UNPROBED: train(case.spec_of(home, probed=False, steps=len(batches)), out / "workbench", Workspace(home)),
        BARE: bare_loop(home, out / "bare", len(batches)),
    }
    spent = dict.fromkeys(runs, (0.0, 0.0))
    for step in range(1, len(batches) + 1):
        for name in list(runs)[:: 1 if step % 2 else -1]:
            began = clock()
            next(event for event in runs[name] if isinstance(event, Measured) and event.step == step)
            wall, cpu = between(began, clock())
            if step > 1:
                spent[name] = spent[name][0] + wall, spent[name][1] + cpu
    for run in runs.values():  # both save what they have learnt
        list(run)
    tokens = case.real_tokens(batches[1:])
    return {UNPROBED: Lap(spent[UNPROBED], tokens, out / "workbench"), BARE: Lap(spent[BARE], tokens, out / "bare")}


def bare_loop(home: Path, out: Path, steps: int) -> Iterator[Measured]:
    """The least that makes the same numbers as the workbench; of each step it says only that it is done."""
    prepared, spec = case.prepared_from(home), case.spec_of(home)
    attachment = spec.adapter.attach(prepared.model, spec.seed)
    parameters = [parameter for _, parameter in attachment.trained()]
    optimizer = torch.optim.AdamW(parameters, lr=case.RATE, weight_decay=0.0, fused=True)
    batches = Batches.of(prepared.train, spec, prepared.tokenizer.pad_token_id, prepared.draws)
    attachment.model.train()
    quicken(attachment.model, spec, batches)
    for step in range(1, steps + 1):
        for batch in batches.window(step):
            with torch.autocast("cpu", prepared.numbers, enabled=prepared.numbers != torch.float32):
                loss = -label_logp(attachment.model, batch).mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, case.CLIP)
        optimizer.step()
        optimizer.zero_grad()
        yield Measured(step, {})
    (out / "adapter").mkdir(parents=True)
    attachment.save(out / "adapter")
    case.keep_state(optimizer, out)


CONTENDERS: dict[str, Callable[[Path, Path, int], Lap]] = {
    TRAINER: lambda home, out, steps: with_trainer(home, out, steps, by_length=False),
    BY_LENGTH: lambda home, out, steps: with_trainer(home, out, steps, by_length=True),
    BY_LENGTH_SAME: lambda home, out, steps: with_trainer(home, out, steps, by_length=True, precision="auto"),
    PACKED_FLOAT32: lambda home, out, steps: with_workbench(home, out, steps, packing=True, precision="float32"),
    PACKED: lambda home, out, steps: with_workbench(home, out, steps, packing=True),
    PACKED_UNPROBED: lambda home, out, steps: with_workbench(home, out, steps, packing=True, probed=False),
    PADDED: lambda home, out, steps: with_workbench(home, out, steps, packing=False),
}
MEASUREMENTS = [*CONTENDERS, IN_TURNS]  # against the first all others are held


# One measurement, in a process of its own.


def measure(name: str, home: Path) -> dict[str, dict[str, Any]]:
    """What there is to say of each contender of the measurement."""
    with tempfile.TemporaryDirectory() as folder:
        if name == IN_TURNS:
            laps = in_turns(home, Path(folder))
        else:
            CONTENDERS[name](home, Path(folder) / "warm", 1)
            laps = {name: CONTENDERS[name](home, Path(folder) / "run", 0)}
        return {contender: {**lap.figures(), **case.what_was_learnt(home, lap.folder)} for contender, lap in laps.items()}


def measured(name: str, home: Path) -> dict[str, dict[str, Any]]:
    """The same from a fresh process, without a GPU and without the hub; refuses a run that did not train."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, "--home", str(home)]
    alone = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=alone)
    if done.returncode:
        raise SystemExit(f"{name}:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    for contender, it in found.items():
        if not (it["gradient"] > 0 and it["moved"] > 0 and it["loss_after"] < it["loss_before"]):
            raise SystemExit(f"{contender} did not train, so its speed means nothing: {it}")
    return found


# The figures.


def ratio(rounds: list[dict[str, Any]], name: str, to: str) -> dict[str, list[float]]:
    """How many times as fast as `to`: median, least and most of the rounds, by the wall clock and by CPU seconds."""
    found = {}
    for clock_name, key in (("wall", "tokens_per_s"), ("cpu", "tokens_per_cpu_s")):
        each = [contenders[name][key] / contenders[to][key] for contenders in rounds]
        found[clock_name] = [statistics.median(each), min(each), max(each)]
    return found


def summary(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    speeds = {key: statistics.median(found[name][key] for found in rounds) for key in ("tokens_per_s", "tokens_per_cpu_s")}
    return {**rounds[0][name], **speeds, "over_trainer": ratio(rounds, name, TRAINER)}


def table(result: dict[str, Any]) -> str:
    lines = ["| | tokens/s | a CPU second | over the trainer | by CPU seconds | gradient | moved | loss |", "|---|" + "---:|" * 7]
    for name, found in result["contenders"].items():
        wall, cpu = (f"{median:.2f} ({least:.2f}–{most:.2f})" for median, least, most in found["over_trainer"].values())
        proof = f"{found['gradient']:.2f} | {found['moved']:.2f} | {found['loss_before']:.4f} → {found['loss_after']:.4f}"
        lines.append(f"| {name} | {found['tokens_per_s']:.0f} | {found['tokens_per_cpu_s']:.0f} | {wall} | {cpu} | {proof} |")
    for what, found in result["goals"].items():
        wall, cpu = (f"{median:.3f} ({least:.3f}–{most:.3f})" for median, least, most in (found["wall"], found["cpu"]))
        lines.append(f"{what}: {wall}, by CPU seconds {cpu}; the goal is {found['goal']}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=case.SHAPES, default="7M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=18, help="steps of 16 rows in one measurement")
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="measurements, with commas between; the trainer is always one")
    parser.add_argument("--out", type=Path, help="where the result goes, else benchmarks/results/train_cpu.json, train_cpu_13m.json …")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    discover()
    if given.measure:
        print(json.dumps(measure(given.measure, given.home)))
        return
    rounds, load = [], os.getloadavg()[0]
    wanted = [name for name in MEASUREMENTS if name in (TRAINER, *given.only.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        case.make(Path(folder), given.case, given.steps)
        rows = case.about(Path(folder))
        for number in range(1, given.rounds + 1):
            found: dict[str, Any] = {}
            for name in wanted[:: 1 if number % 2 else -1]:
                found |= measured(name, Path(folder))
            rounds.append({name: found[name] for name in (*CONTENDERS, UNPROBED, BARE) if name in found})
            print(f"round {number}: " + ", ".join(f"{name} {it['tokens_per_s']:.0f}" for name, it in rounds[-1].items()), flush=True)
    result = {
        "what": "real tokens a second of training LoRA r 8 on a CPU; ratios are [median, least, most] of the rounds",
        "how": "every row once, in fresh processes, to and fro through the contenders; the script's first lines say it in full",
        "case": given.case,
        "rows": rows,
        "contenders": {name: summary(rounds, name) for name in rounds[0]},
        "goals": {
            f"{name} over {to}": {**ratio(rounds, name, to), "goal": goal}
            for (name, to), goal in GOALS[given.case].items()
            if {name, to} <= rounds[0].keys()
        },
        "rounds": rounds,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
        | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    out = given.out or RESULTS / ("train_cpu.json" if given.case == "7M" else f"train_cpu_{given.case.lower().replace('.', '_')}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{table(result)}\n→ {out}")


if __name__ == "__main__":
    main()
