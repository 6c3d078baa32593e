"""Merging beside mergekit: wall and CPU time, peak memory, and whether both write the same model.

    python benchmarks/merge.py --mergekit VENV/bin/mergekit-yaml [--device cpu|cuda] [--rounds 1] [--home FOLDER]

A base of 254 M parameters and three models tuned from it (random, bfloat16, task vectors that share a part) are merged by both from the
same files, in turns, each in a process of its own: `python -m workbench merge` and `mergekit-yaml`, both computing in float32 and writing
bfloat16, both from mergekit's own YAML. Time and memory count everything from the start of the process; memory is main memory. Install
mergekit 0.1.5 into an environment of its own; it is not a dependency. Written to `benchmarks/results/merge.json`, or `merge_gpu.json` with
`--device cuda`, where both use the GPU for every method, and the comparison counts what its sums in another order change.
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
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parents[1]
RESULTS = {device: ROOT / "benchmarks" / "results" / f"{name}.json" for device, name in (("cpu", "merge"), ("cuda", "merge_gpu"))}
TIMED = (
    "import json, resource, subprocess, sys, time; began = time.perf_counter(); code = subprocess.call(sys.argv[1:], stdout=sys.stderr); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps({'wall_s': time.perf_counter() - began, "
    "'cpu_s': used.ru_utime + used.ru_stime, 'peak_mib': used.ru_maxrss / 1024, 'code': code}))"
)
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"parameters": {}},
    "task_arithmetic": {"parameters": {"lambda": 0.7}},
    "ties": {"parameters": {"density": 0.5}},
    "model_stock": {"parameters": {}},
}
WHY_APART = {
    "ties": "on bfloat16's grid many changes are equally large: here they stay or go together, mergekit takes the first of them",
    "model_stock": "mergekit's norms are sums of millions of squares in float32, which moves its ratio by some 1e-4; ours are float64",
}
GOALS = {"linear": 0.5, "ties": 0.5, "model_stock": 0.75}  # of mergekit's wall time
MEMORY_GOAL = 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", type=Path, required=True)
    parser.add_argument("--device", choices=list(RESULTS), default="cpu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--home", type=Path, help="where the models lie; made there if they do not")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here. Leave --device out, or run this where there is one.")
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        models = make(home)
        rows = [measured(name, models, home, given.mergekit, given.rounds, given.device) for name in METHODS]
    about = {
        "what": "254 M parameters × 3 models and a base, bfloat16 in and out, float32 inside; whole processes; medians of the rounds",
        "goals": {"wall over mergekit's": GOALS, "peak memory over mergekit's": round(MEMORY_GOAL, 2)},
        "device": "cpu" if given.device == "cpu" else torch.cuda.get_device_name(0),
        "rounds": given.rounds,
        "rows": rows,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "versions": {name: version(name) for name in ("torch", "safetensors")} | {"mergekit": "0.1.5", "python": platform.python_version()},
        "date": date.today().isoformat(),
    }
    RESULTS[given.device].write_text(json.dumps(about, indent=1) + "\n")


def make(home: Path) -> list[Path]:
    """The base and three models, written once."""
    folders = [home / name for name in ("base", "one", "two", "three")]
    if all((folder / "config.json").exists() for folder in folders):
        return folders
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=16, num_attention_heads=16, num_key_value_heads=8,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    shared = {name: torch.randn_like(tensor) for name, tensor in start.items()}
    for place, folder in enumerate(folders):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                own = 0.6 * shared[name] + 0.8 * torch.randn_like(shared[name])
                parameter.copy_(start[name] + (0.002 * own if place else 0))
        model.to(torch.bfloat16).save_pretrained(folder)
        model.float()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ROOT / "assets" / "pocket" / name, folder / name)
    return folders


def measured(method: str, models: list[Path], home: Path, mergekit: Path, rounds: int, device: str) -> dict[str, Any]:
    base, *tuned = (str(model) for model in models)
    entries = [{"model": model, "parameters": {"weight": 1.0}} for model in tuned]
    of = {} if method == "linear" else {"base_model": base}
    recipe = {"merge_method": method, **of, "models": entries, **METHODS[method], "dtype": "float32", "out_dtype": "bfloat16"}
    file = home / f"{method}.yml"
    file.write_text(yaml.safe_dump(recipe))
    found: dict[str, list[dict[str, float]]] = {"ours": [], "mergekit": []}
    for number in range(rounds):
        for who in ("ours", "mergekit") if number % 2 else ("mergekit", "ours"):
            out = home / f"out-{who}"
            shutil.rmtree(out, ignore_errors=True)
            ours = [sys.executable, "-m", "workbench", "merge", str(file), "--home", str(out), "--set", "name=out"]
            ours += ["--set", f"device={device}"]
            theirs = [str(mergekit), str(file), str(out), "-j", "2", *(["--cuda"] if device == "cuda" else [])]
            found[who].append(timed(ours if who == "ours" else theirs))
    row = {who: {name: round(statistics.median(one[name] for one in of), 2) for name in of[0]} for who, of in found.items()}
    ratios = {name: round(row["ours"][name] / row["mergekit"][name], 3) for name in ("wall_s", "cpu_s", "peak_mib")}
    same = compared(next((home / "out-ours").rglob("model.safetensors")).parent, home / "out-mergekit", models[0])
    print(method, device, row, ratios, same, flush=True)
    why = {"why": WHY_APART[method]} if method in WHY_APART else {}
    return {"method": method, "device": device, **row, "ours_over_mergekit": ratios, **same, **why}


def timed(command: list[str]) -> dict[str, float]:
    said = subprocess.run([sys.executable, "-c", TIMED, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    if found.pop("code"):
        sys.exit(f"This did not work: {' '.join(command)}")
    return found


def compared(ours: Path, theirs: Path, base: Path) -> dict[str, Any]:
    """The share of numbers that differ, and by how much of the merged task vector."""
    other = count = 0
    apart = moved = 0.0
    for file in sorted(theirs.glob("*.safetensors")):
        with (
            safe_open(file, "pt") as one,
            safe_open(ours / "model.safetensors", "pt") as two,
            safe_open(base / "model.safetensors", "pt") as of,
        ):
            for name in one.keys():  # noqa: SIM118  (safe_open is no dict)
                theirs_, ours_, start = one.get_tensor(name), two.get_tensor(name), of.get_tensor(name).float()
                other += int((theirs_ != ours_).sum())
                count += theirs_.numel()
                apart += float((theirs_.float() - ours_.float()).square().sum())
                moved += float((theirs_.float() - start).square().sum())
    return {"numbers_that_differ": other / count, "difference_over_task_vector": (apart / moved) ** 0.5 if moved else 0.0}


if __name__ == "__main__":
    main()
