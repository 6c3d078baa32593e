"""A merge tried in memory: how long a person waits for scores and for answers after moving a slider.

    python benchmarks/preview.py [--rounds 5] [--only pocket] [--out FILE]

Two models tuned from a base (its weights and some random change, bfloat16 on disk) are opened as the page opens them. Then LiNeS's α is
moved round by round, as by a hand on the slider. Told are the seconds until the models are open and the first scores stand there, over how
many rows they are; then of each later move the medians until the first scores stand there, those over all rows, the merged model's
answers, and all of it with the loss on the way from the base. They are the moments at which the page is told, as it is. The pocket model is
the one that the program brings; the other has the shape of Qwen2.5-0.5B and the pocket model's tokenizer, and its answers mean nothing.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from workbench.core import environment

environment.tell()  # as the page does, before torch reads it

import told
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from workbench.core.method import discover
from workbench.core.spec import MergeSpec
from workbench.core.workspace import Workspace
from workbench.jobs.tasted import MERGED
from workbench.jobs.tasting import Tasting
from workbench.jobs.tastings import PATIENCE

POCKET = ROOT / "assets" / "pocket"
HALF_BILLION = "0.5B"
GOALS = {"pocket": 1.0, HALF_BILLION: 5.0}  # seconds from the move until scores over all rows and answers stand there; "a few seconds"
SETS = ["quickstart"]  # beside the demo model's skills, which are asked of the demo model alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=GOALS)
    parser.add_argument("--out", type=Path, help="else benchmarks/results/preview.json, of a GPU preview_gpu.json")
    given = parser.parse_args()
    discover()
    where = told.machine()
    cases = {}
    for name in [given.only] if given.only else GOALS:
        with tempfile.TemporaryDirectory() as folder:
            cases[name] = measured(name, Path(folder), given.rounds)
        print(name, cases[name], flush=True)
    result = {
        "what": "seconds from moving a slider of a merge of two models until its scores, and its answers too, stand there; [median, least, "
        "most]",
        "cases": cases,
        "goals": [
            told.goal(f"{name}: seconds until {words}", cases[name][what][0], at_most=GOALS[name])
            for name in cases
            for what, words in (("first_scores_s", "the first scores"), ("answers_s", "scores over all rows and answers"))
        ],
        **told.about(("torch", "transformers"), where),
    }
    print("\n".join(told.in_words(result["goals"])))
    told.keep(result, given.out or told.RESULTS / ("preview_gpu.json" if told.device() == "cuda" else "preview.json"))


def measured(name: str, home: Path, rounds: int) -> dict[str, Any]:
    base, *tuned = make(name, home)
    began = time.perf_counter()
    tasting = Tasting(spec_of(base, tuned, 0.5), SETS, Workspace(home))
    opened = time.perf_counter() - began
    first, *moves = [timed(tasting, spec_of(base, tuned, 0.3 + 0.7 * number / rounds)) for number in range(rounds + 1)]
    tasks = [f"{task.name}: {len(task.rows['labels'])} rows, {len(task.questions)} questions" for task in tasting.tasks]
    rows = sorted({move.pop("rows") for move in moves})
    told_ = {what: told.spread([move[what] for move in moves]) for what in moves[0]}
    return {"open_s": opened, "when_opened": first, **told_, "rows_of_first_scores": rows, "tasks": tasks}


def timed(tasting: Tasting, spec: MergeSpec) -> dict[str, Any]:
    """Seconds until something stands there, and over how many of the rows the first scores are."""
    began, found = time.perf_counter(), dict[str, Any]()
    for tasted in tasting.taste(spec, PATIENCE):
        now = time.perf_counter() - began
        found.setdefault("first_scores_s", now)
        found.setdefault("rows", "{} of {}".format(*tasted.rows))
        if tasted.rows[0] == tasted.rows[1]:
            found.setdefault("scores_s", now)
        if MERGED in tasted.said and MERGED not in tasted.growing:
            found.setdefault("answers_s", now)
    return {**found, "all_s": now}


def spec_of(base: str, tuned: list[str], alpha: float) -> MergeSpec:
    merge = {"method": "lines", "alpha": alpha, "beta": 0.4}
    return MergeSpec.parse({"base": base, "models": [{"model": one, "weight": 0.5} for one in tuned], "merge": merge})


def make(name: str, home: Path) -> list[str]:
    """The base, which is the demo model itself where it is the case, and two models tuned from it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32) if name == "pocket" else half_billion()
    tuned = [home / "one", home / "two"]
    start = {own: parameter.detach().clone() for own, parameter in model.named_parameters()}
    folders = tuned if name == "pocket" else [home / "base", *tuned]
    for folder in folders:
        with torch.no_grad():
            for own, parameter in model.named_parameters():
                change = 0.02 * start[own].std() * torch.randn_like(parameter) if folder in tuned else 0
                parameter.copy_(start[own] + change)
        model.to(torch.bfloat16).save_pretrained(folder)
        model.float()
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(POCKET / file, folder / file)
    return [*(["pocket"] if name == "pocket" else []), *map(str, folders)]


def half_billion() -> PreTrainedModel:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151_936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
    )


if __name__ == "__main__":
    main()
