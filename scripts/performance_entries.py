"""What stands on `docs/performance.md`, in its order: of each result its title, what it answers, what measures it, its table and picture.

What it is not: the tables (`performance_tables.py`, `performance_quality.py`), or the page around them.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import performance_quality as quality
import performance_tables as tables
from performance_pictures import Bar, bars
from performance_tables import Goal, Result, Table, short

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Entry:
    """A result on the page. `says`: what it answers, for somebody who has never heard of it. `run`: what measures it."""

    file: str
    title: str
    says: str
    run: str
    table: Callable[[Result], Table]
    goals: Callable[[Result], Iterator[Goal]] = tables.no_goals
    picture: Callable[[Result], str] | None = None
    long: bool = False  # a table that is folded away

    @property
    def script(self) -> Path:
        return ROOT / self.run.split()[0]

    def result(self) -> Result | None:
        path = RESULTS / f"{self.file}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# Pictures.


def trained(result: Result) -> str:
    found = {name: it["over_trainer"]["wall"] for name, it in result["contenders"].items() if "no probes" not in name}
    rows = [Bar(name, it[0], f"{short(it[0])} ×", name.startswith("workbench"), (it[1], it[2])) for name, it in found.items()]
    return bars(f"{result['case']}: tokens a second, times those of transformers’ Trainer", rows)


def trained_on_gpu(result: Result) -> str:
    found = {name: it["tokens_per_s"] for name, it in result["contenders"].items()}
    rows = [Bar(name, it[0], short(it[0]), name.startswith("workbench"), (it[1], it[2])) for name, it in found.items()]
    return bars(f"{result['shape']}: tokens a second", rows)


def heads(result: Result) -> str:
    rows = [
        Bar(f"{row['case']}, {name}", way["over_transformers"][0], f"{short(way['over_transformers'][0])} ×", name == "workbench")
        for row in result["rows"]
        for name, way in row["ways"].items()
        if way["right"] and name not in ("transformers", "workbench, statistics")
    ]
    return bars("Loss and gradient of the head: times as fast as transformers’ form", rows)


def merged(result: Result) -> str:
    rows = []
    for row in result["rows"]:
        shares = row["ours_over_mergekit"]
        rows.append(Bar(f"{row['method']}, time", shares["wall_s"], f"{short(shares['wall_s'])} of mergekit’s", True))
        rows.append(Bar("memory", shares["peak_mib"], f"{short(shares['peak_mib'])}", True))
    return bars("Merging: share of mergekit’s time and peak memory", rows)


def answered(result: Result) -> str:
    shares = {row["model"]: row["time over generate's"] for row in result["rows"]}
    rows = [Bar(name, it["median"], short(it["median"]), True, (it["from"], it["to"])) for name, it in shares.items()]
    return bars("Four answers together: share of the time of four generate calls", rows, tables.number_in(result["goal"]))


# The page's order.

TRAIN_CPU = (
    "How many tokens a second LoRA learns, beside transformers' Trainer with peft on the same rows: padded as its guides have it, and with "
    "rows of like length put together."
)
TRAIN_GPU = "LoRA r 32 on packed rows, beside Trainer + peft, Liger, Apple's CCE and Unsloth where they are installed."
HEAD = "The output layer and its loss, which with a large vocabulary take more memory than all the rest: time, memory, and how exact."
PROBE = "What it costs to watch step safety (ρ_a) while a run trains."
SPREAD = "The sum inside that probe, which holds no tensor of all logits."
LAYER = "One linear layer with LoRA, beside peft's and beside the same layer without it."

CPU = [
    Entry(
        "train_cpu", "Training, 7 million parameters", TRAIN_CPU, "benchmarks/train_cpu.py",
        tables.train_cpu, tables.train_cpu_goals, trained,
    ),
    Entry(
        "train_cpu_13m", "Training, 13 million parameters", "The same with a vocabulary of 32,000, where the head is most of the work.",
        "benchmarks/train_cpu.py --case 13M", tables.train_cpu, tables.train_cpu_goals, trained,
    ),
    Entry(
        "train_cpu_0_5b", "Training, half a billion parameters",
        "The same at the shape of Qwen2.5-0.5B, where a step takes half a minute: two contenders, nine steps, two rounds.",
        'benchmarks/train_cpu.py --case 0.5B --rounds 2 --steps 9 --only "trainer,workbench packed"',
        tables.train_cpu, tables.train_cpu_goals, trained,
    ),
    Entry("head", "The head and its loss", HEAD, "benchmarks/head.py", tables.head, tables.own_goals, heads),
    Entry("ops_cpu", "A LoRA layer", LAYER, "benchmarks/ops.py", tables.lora_layer, tables.ops_goals),
    Entry("probe", "The step-safety probe", PROBE, "benchmarks/probe.py", tables.probe, tables.own_goals),
    Entry("probe", "The spread of the logits", SPREAD, "benchmarks/probe.py", tables.logit_spread),
    Entry(
        "page_cost", "The open page", "What it costs a run that somebody watches it.", "benchmarks/page_cost.py",
        tables.page_cost, tables.page_cost_goals,
    ),
    Entry(
        "live_chart", "A chart of a million points", "Whether a long run can still be looked at.", "benchmarks/live_chart.py",
        tables.live_chart, tables.live_chart_goals,
    ),
    Entry(
        "data", "Large data sets",
        "Bringing rows in, looking at them, and finding copies, beside pandas and HF datasets. The goals for time and memory are for a "
        "million rows, and are held only against a measurement of so many.",
        "benchmarks/data.py", tables.data, tables.data_goals,
    ),
    Entry(
        "generate", "Four answers side by side", "A base and three LoRA runs answer one prompt together, beside four `generate` calls.",
        "benchmarks/generate.py", tables.generate, tables.generate_goals, answered,
    ),
    Entry(
        "merge", "Merging models", "Three models of 254 million parameters into one, beside mergekit.",
        "benchmarks/merge.py --mergekit VENV/bin/mergekit-yaml", tables.merge, tables.merge_goals, merged,
    ),
    Entry(
        "four_bits", "A frozen base in 4 bits", "QLoRA: what it saves in memory, and what it costs in time.",
        "benchmarks/four_bits.py", tables.four_bits,
    ),
    Entry(
        "four_bits", "Learning beside 4 bits", "What the demo model learns and forgets where its matrices are in 4 bits.",
        "benchmarks/four_bits.py", tables.beside_four_bits,
    ),
    Entry(
        "preview", "A merge tried in memory", "How long a person waits after moving a slider of a merge of two models.",
        "benchmarks/preview.py", tables.preview, tables.own_goals,
    ),
    Entry(
        "lora_merge", "Merging adapters", "LoRA adapters merged by their factors, beside the dense decomposition.",
        "benchmarks/lora_merge.py", tables.lora_merge, tables.lora_merge_goals,
    ),
    Entry(
        "regions", "Memory of training a part of the weights", "Beside full tuning and LoRA.", "benchmarks/regions.py",
        tables.regions, tables.regions_goals,
    ),
    Entry(
        "memory", "The memory estimate", "What the page says a run will need, beside what it held.", "benchmarks/memory.py",
        tables.memory, tables.memory_goals,
    ),
]  # fmt: skip
GPU = [
    *(
        Entry(
            f"train_gpu_{shape.lower()}", f"Training {shape} on a GPU", TRAIN_GPU, f"benchmarks/train_gpu.py --shape {shape}",
            tables.train_gpu, tables.own_goals, trained_on_gpu,
        )
        for shape in ("Qwen2.5-0.5B", "Llama-3.2-1B", "Llama-3.1-8B")
    ),
    Entry("head_gpu", "The head and its loss on a GPU", HEAD, "benchmarks/head.py", tables.head, tables.own_goals, heads),
    Entry(
        "ops_cuda", "The ops on a GPU", "Each op in plain torch and as a Triton kernel, beside the best that this GPU can do.",
        "benchmarks/ops.py", tables.ops, tables.ops_goals,
    ),
    Entry("ops_cuda", "A LoRA layer on a GPU", LAYER, "benchmarks/ops.py", tables.lora_layer),
    Entry("probe_gpu", "The step-safety probe on a GPU", PROBE, "benchmarks/probe.py", tables.probe, tables.own_goals),
    Entry("probe_gpu", "The spread of the logits on a GPU", SPREAD, "benchmarks/probe.py", tables.logit_spread),
    Entry(
        "merge_gpu", "Merging models on a GPU", "The same merges as on a CPU, beside mergekit with --cuda.",
        "benchmarks/merge.py --mergekit VENV/bin/mergekit-yaml --device cuda", tables.merge,
    ),
]  # fmt: skip
QUALITY = [
    Entry(
        "pocket", "The demo model", "What it knows, and its right answers after each demo run.", "benchmarks/pocket.py",
        quality.pocket, quality.pocket_goals,
    ),
    Entry(
        "adapters", "Adapters",
        "What each learns of a new skill and forgets of the old ones; [as a figure](../benchmarks/results/adapters.svg).",
        "benchmarks/adapters.py scores", quality.adapters, long=True,
    ),
    Entry(
        "intruders", "Intruder dimensions", "Whether LoRA brings more of them than full tuning, and what they cost.",
        "benchmarks/intruders.py", quality.intruders,
    ),
    Entry("merging", "Merges", "Two skills in one model.", "benchmarks/merging.py", quality.merging, long=True),
    Entry(
        "selection", "Selecting rows", "5 % of a pool chosen by a selector, beside 5 % at random.", "benchmarks/selection.py",
        quality.selection,
    ),
    Entry(
        "messy", "Cleaning", "How well cleaning steps find what is wrong with a set whose flaws are known.",
        "benchmarks/messy.py --out benchmarks/results/messy.json", quality.messy, long=True,
    ),
    Entry(
        "spike", "Surviving a spike", "A learning rate ten thousand times too high, with and without the cap on r.",
        "benchmarks/spike.py", quality.spike,
    ),
    Entry("onset", "Where harm begins", "From which r on a step does harm.", "benchmarks/onset.py", quality.onset, quality.onset_goals),
    Entry(
        "scaling_law", "What more rows would bring", "Whether the forecast agrees with what the paper's authors report of theirs.",
        "benchmarks/scaling_law.py PATH --out benchmarks/results/scaling_law.json", quality.scaling_law,
    ),
]  # fmt: skip
