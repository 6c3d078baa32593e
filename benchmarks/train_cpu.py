"""Training on a CPU: real tokens a second of LoRA, the workbench beside transformers' Trainer and beside a bare loop.

    python benchmarks/train_cpu.py [--case 7M] [--rounds 5] [--steps 12] [--out FILE]

Six contenders learn the same rows from the same weights (`train_cpu_case.py`): Trainer + peft with padded batches, which is 1.00;
the same with batches grouped by length; the workbench with its default probes, packed and padded; the workbench without probes;
and a loop of ten lines over the same model call, adapter, batches and optimizer, against which the workbench's own cost is read.
All use the number format and the threads that the workbench chooses for this model on this machine, LoRA r 8 on all linear
matrices, torch's fused AdamW, clipping at 1, and exactly one epoch: everyone sees each row once, and no padding is counted.

Every measurement is a process of its own, because a contender leaves things behind: the number of threads, accelerate's state,
memory that the allocator keeps. In it the contender first trains one step that does not count, on a model of its own. The clock
runs from before the first batch is drawn until the last step is done; loading, evaluation, samples and saving are outside. The
rounds go to and fro through the contenders, and ratios are taken within a round.

A run counts only if Adam's second moments show a gradient, LoRA's B has left zero, and what was saved has a lower loss than the
base on the first 32 rows (read from disk, by transformers' own loss). Not measured: memory, quality, other threads and models.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from torch import Tensor
from train_cpu_case import BETA2, RATE, ROWS, SHAPES, about, batches_of, make, prepared_from, rows_of, spec_of, whole
from transformers import DataCollatorForSeq2Seq, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from workbench.core.events import Measured
from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.jobs.train import train
from workbench.materials.models import label_table
from workbench.materials.packing import pad
from workbench.materials.templates import Encoded

RESULTS = ROOT / "benchmarks" / "results"
PADDED, GROUPED, PACKED, UNPROBED, BARE = "trainer", "trainer by length", "workbench packed", "workbench, no probes", "bare loop"
GOALS = {"7M": (3.5, 1.4), "13M": (4.5, 2.0)}  # workbench packed over the trainer, and over the trainer by length; shared/goals.md
OVERHEAD = 0.97  # the workbench without probes over the bare loop

Clock = tuple[float, float]  # wall seconds, CPU seconds


@dataclass(frozen=True)
class Lap:
    """How long a contender took, and the second moments and the number of steps with which its optimizer ended."""

    began: Clock
    ended: Clock
    moments: list[Tensor]
    steps: int


def clock() -> Clock:
    return time.perf_counter(), time.process_time()


# The contenders: each trains the model of `home` for `steps` (0: one epoch) and leaves a peft folder `out / "adapter"`.


def with_trainer(home: Path, out: Path, steps: int, sampling: str) -> Lap:
    """transformers' Trainer and peft as their guides have it, with nothing logged or saved on the way."""
    prepared = prepared_from(home)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    torch.manual_seed(0)
    model = get_peft_model(prepared.model, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
    arguments = TrainingArguments(
        output_dir=str(out), use_cpu=True, max_steps=steps or whole(batches_of(home, prepared.train)), learning_rate=RATE,
        per_device_train_batch_size=ROWS, train_sampling_strategy=sampling, optim="adamw_torch_fused", lr_scheduler_type="constant",
        remove_unused_columns=False, logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True, seed=0,
    )  # fmt: skip
    times = Times()
    rows = [features(row) for row in prepared.train]
    trainer = Trainer(model, arguments, DataCollatorForSeq2Seq(prepared.tokenizer), rows, callbacks=[times])
    trainer.train()
    model.save_pretrained(out / "adapter")
    return Lap(times.began, times.ended, *moments_of(trainer.optimizer))


class Times(TrainerCallback):
    """From the start of the epoch, before the first batch is drawn, to the end of the newest step."""

    def on_epoch_begin(self, *given: Any, **more: Any) -> None:
        self.began = clock()

    def on_step_end(self, *given: Any, **more: Any) -> None:
        self.ended = clock()


def with_workbench(home: Path, out: Path, steps: int, packing: bool = False, probed: bool = True) -> Lap:
    """The training job as everyone iterates it. Step 1 begins when the event before its own has been taken."""
    steps = steps or whole(batches_of(home, rows_of(home), packing))
    events = [(event, clock()) for event in train(spec_of(home, packing, probed, steps), out, Workspace(home))]
    measured = [place for place, (event, _) in enumerate(events) if isinstance(event, Measured) and event.step > 0]
    last = next(place for place in measured if events[place][0].step == steps)  # the step's own; the evaluation's comes behind it
    with safe_open(out / "checkpoint" / "state.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.endswith(".exp_avg_sq")]  # noqa: SIM118  (safe_open is no dict)
        return Lap(events[measured[0] - 1][1], events[last][1], [file.get_tensor(name) for name in names], steps)


def with_bare_loop(home: Path, out: Path, steps: int) -> Lap:
    """The least that makes the same numbers as the workbench: no events, no probes, no checks."""
    prepared, spec = prepared_from(home), spec_of(home)
    attachment = spec.adapter.attach(prepared.model, spec.seed)
    parameters = [parameter for _, parameter in attachment.trained()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0, fused=True)
    batches = batches_of(home, prepared.train)
    attachment.model.train()
    began = clock()
    for step in range(1, (steps or whole(batches)) + 1):
        for batch in batches.window(step):
            labels = batch["labels"][:, 1:]
            labels = labels[labels != -100]
            loss = -label_table(attachment.model, batch).gather(1, labels[:, None]).mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    ended = clock()
    attachment.save(out / "adapter")
    return Lap(began, ended, *moments_of(optimizer))


CONTENDERS: dict[str, Callable[[Path, Path, int], Lap]] = {  # what is compared most closely stands side by side
    PADDED: lambda home, out, steps: with_trainer(home, out, steps, "random"),
    GROUPED: lambda home, out, steps: with_trainer(home, out, steps, "group_by_length"),
    PACKED: lambda home, out, steps: with_workbench(home, out, steps, packing=True),
    "workbench": with_workbench,
    UNPROBED: lambda home, out, steps: with_workbench(home, out, steps, probed=False),
    BARE: with_bare_loop,
}


def features(row: Encoded) -> dict[str, list[int]]:
    labels = [token if trained else -100 for token, trained in zip(row.ids, row.trained, strict=True)]
    return {"input_ids": row.ids, "attention_mask": [1] * len(row.ids), "labels": labels}


def moments_of(optimizer: torch.optim.Optimizer) -> tuple[list[Tensor], int]:
    states = list(optimizer.state_dict()["state"].values())
    return [state["exp_avg_sq"] for state in states], int(states[0]["step"])


# One measurement, in a process of its own.


def measure(name: str, home: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        CONTENDERS[name](home, Path(folder) / "warm", 1)
        lap = CONTENDERS[name](home, Path(folder) / "run", 0)
        rows = rows_of(home)
        wall, cpu = (end - start for start, end in zip(lap.began, lap.ended, strict=True))
        squares = sum(moment.double().sum().item() for moment in lap.moments) / (1 - BETA2**lap.steps)
        return {
            "wall_s": wall,
            "cpu_s": cpu,
            "tokens": sum(len(row.ids) for row in rows),
            "steps": lap.steps,
            "threads": torch.get_num_threads(),
            "grad_norm": math.sqrt(squares),  # root mean square over the run, after clipping
            **what_was_learnt(home, Path(folder) / "run" / "adapter", rows[:32]),
        }


def what_was_learnt(home: Path, adapter: Path, rows: Sequence[Encoded]) -> dict[str, Any]:
    model = prepared_from(home).model
    before = loss_on(model, rows)
    tuned = PeftModel.from_pretrained(model, adapter)
    moved = [parameter.double().square().sum().item() for name, parameter in tuned.named_parameters() if "lora_B" in name]
    return {"moved": math.sqrt(sum(moved)), "loss_before": before, "loss_after": loss_on(tuned, rows), "dtype": str(model.dtype)}


@torch.no_grad()
def loss_on(model: PreTrainedModel | PeftModel, rows: Sequence[Encoded]) -> float:
    return model.eval()(**pad(rows, 0)).loss.item()


def measured(name: str, home: Path) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", name, "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{name}:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    if not (found["grad_norm"] > 0 and found["moved"] > 0 and found["loss_after"] < found["loss_before"]):
        raise SystemExit(f"{name} did not train, so its speed means nothing: {found}")
    return found


# The figures.


def ratio(rounds: list[dict[str, Any]], name: str, to: str) -> dict[str, list[float]]:
    """How many times as fast as `to`: median, least and most of the rounds, by the wall clock and by CPU seconds."""
    each = {key: [found[to][key] / found[name][key] for found in rounds] for key in ("wall_s", "cpu_s")}
    return {key.removesuffix("_s"): [statistics.median(values), min(values), max(values)] for key, values in each.items()}


def summary(rounds: list[dict[str, Any]], name: str) -> dict[str, Any]:
    one = rounds[0][name]
    return {
        "tokens_per_s": statistics.median(found[name]["tokens"] / found[name]["wall_s"] for found in rounds),
        "tokens_per_cpu_s": statistics.median(found[name]["tokens"] / found[name]["cpu_s"] for found in rounds),
        "over_trainer": ratio(rounds, name, PADDED),
        "over_trainer_by_length": ratio(rounds, name, GROUPED),
        **{key: one[key] for key in ("steps", "threads", "dtype", "grad_norm", "moved", "loss_before", "loss_after")},
    }


def table(result: dict[str, Any]) -> str:
    lines = ["| | tokens/s | a CPU second | over the trainer | by CPU seconds | gradient | moved | loss |", "|---|" + "---:|" * 7]
    for name, found in result["contenders"].items():
        wall, cpu = (f"{median:.2f} ({least:.2f}–{most:.2f})" for median, least, most in found["over_trainer"].values())
        speeds = f"{found['tokens_per_s']:.0f} | {found['tokens_per_cpu_s']:.0f} | {wall} | {cpu}"
        loss = f"{found['loss_before']:.3f} → {found['loss_after']:.3f}"
        lines.append(f"| {name} | {speeds} | {found['grad_norm']:.2f} | {found['moved']:.2f} | {loss} |")
    for what in ("packed_over_trainer_by_length", "no_probes_over_bare_loop"):
        (wall, *spread), (cpu, *_) = result[what]["wall"], result[what]["cpu"]
        lines.append(f"{what.replace('_', ' ')}: {wall:.3f} ({spread[0]:.3f}–{spread[1]:.3f}), by CPU seconds {cpu:.3f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=SHAPES, default="7M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12, help="steps of 16 rows in one measurement")
    parser.add_argument("--out", type=Path, help="where the result goes, else benchmarks/results/train_cpu.json or train_cpu_13m.json")
    parser.add_argument("--measure", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    discover()
    if given.measure:
        print(json.dumps(measure(given.measure, given.home)))
        return
    rounds, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.case, given.steps)
        rows = about(Path(folder))
        for number in range(given.rounds):
            order = list(CONTENDERS)[:: 1 if number % 2 == 0 else -1]
            found = {name: measured(name, Path(folder)) for name in order}
            rounds.append({name: found[name] for name in CONTENDERS})
            print(f"round {number + 1}: " + ", ".join(f"{name} {rounds[-1][name]['wall_s']:.1f} s" for name in CONTENDERS), flush=True)
    result = {
        "what": "real tokens a second of training LoRA r 8 on a CPU; ratios are [median, least, most] of the rounds",
        "how": "one epoch over the same rows in a fresh process each, to and fro through the contenders; see the script's first lines",
        "case": given.case,
        "rows": rows,
        "contenders": {name: summary(rounds, name) for name in CONTENDERS},
        "packed_over_trainer_by_length": ratio(rounds, PACKED, GROUPED),
        "no_probes_over_bare_loop": ratio(rounds, UNPROBED, BARE),
        "goals": dict(zip(("packed over trainer", "packed over trainer by length"), GOALS[given.case], strict=True))
        | {"no probes over bare loop": OVERHEAD},
        "rounds": rounds,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
        | {"python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    out = given.out or RESULTS / ("train_cpu.json" if given.case == "7M" else f"train_cpu_{given.case.lower()}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{table(result)}\n→ {out}")


if __name__ == "__main__":
    main()
