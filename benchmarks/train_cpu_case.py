"""What `train_cpu.py` trains: a Llama with random weights, rows of chat-like lengths, and the spec; and what shows that it trained.

The weights are saved in bfloat16, as models are published. Row lengths are log-normal (median 110 tokens, sigma 0.65, at most 512, or 256
for the large model), the law of chats; the words are drawn by Zipf's law from
the demo model's vocabulary, and the answer, which is learnt, is on average half of a row. A measurement can afford some 200
rows, among which too few are alike to be grouped well (62 % useful, against 97 % of a large set). So the batches are taken from
those that transformers forms by length in a set of 12,800 rows, one from each of as many equal parts from the shortest to the longest:
for everyone they are the rows, and for the trainer by length also the batches. The number of packs is a multiple of what a step
takes, so that one epoch is every row once for whoever packs as for whoever pads.
"""

import json
import math
import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.trainer_pt_utils import get_length_grouped_indices

from workbench.core.job import drain
from workbench.core.spec import TrainSpec
from workbench.core.workspace import ASSETS, Workspace
from workbench.jobs.batches import Batches
from workbench.jobs.prepare import Prepared, prepare
from workbench.materials.corpus import load
from workbench.materials.packing import pack, pad
from workbench.materials.templates import Encoded, encode_all

PACKS = 4  # in a step, of about as many tokens as its rows without packing
SMALL = {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "7M": {**SMALL, "num_hidden_layers": 8, "vocab_size": 4_096},
    "13M": {**SMALL, "num_hidden_layers": 6, "vocab_size": 32_000},
    "0.5B": {  # as Qwen2.5-0.5B
        "hidden_size": 896, "intermediate_size": 4_864, "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24,
        "vocab_size": 151_936,
    },
}  # fmt: skip
ROWS = {"7M": (16, 512), "13M": (16, 512), "0.5B": (8, 256)}  # case → rows in a step; tokens of the longest row, and of a pack
LARGE = 12_800  # rows among which transformers groups by length: 16 times the 50 batches that it sorts at once
STATE = "checkpoint/state.safetensors"
RATE, BETA2, CLIP = 1e-3, 0.999, 100.0  # the clip takes its time but binds nothing, so that the moments show the gradient


def make(home: Path, case: str, steps: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[case], max_position_embeddings=ROWS[case][1], tie_word_embeddings=True, pad_token_id=0, bos_token_id=None, eos_token_id=1
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(home / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ASSETS / "pocket" / name, home / "model" / name)
    (home / "case").write_text(case)
    for seed in count():
        lines = (json.dumps({"messages": messages}) for messages in conversations(lengths(*ROWS[case], steps, seed), seed))
        (home / "rows.jsonl").write_text("\n".join(lines) + "\n")
        if len(pack(rows_of(home), ROWS[case][1])) % PACKS == 0:
            return


def sizes_of(home: Path) -> tuple[int, int]:
    """Rows in a step, and tokens of the longest."""
    return ROWS[(home / "case").read_text()]


def lengths(rows: int, longest: int, steps: int, seed: int) -> list[int]:
    """Tokens of the rows, batch after batch as `group_by_length` puts them together; the batches in any order."""
    draw = random.Random(seed)
    drawn = [max(8, min(longest, round(draw.lognormvariate(4.7, 0.65)))) for _ in range(LARGE)]
    order = get_length_grouped_indices(drawn, rows, generator=torch.Generator().manual_seed(seed))
    batches = [[drawn[index] for index in order[start : start + rows]] for start in range(0, LARGE, rows)]
    batches.sort(key=sum)
    chosen = [batches[int((part + draw.random()) * len(batches) / steps)] for part in range(steps)]
    draw.shuffle(chosen)
    return [length for batch in chosen for length in batch]


def conversations(tokens: list[int], seed: int) -> Iterator[list[dict[str, str]]]:
    """Questions and answers of words that are one token each; the template's four marks are tokens too."""
    draw = random.Random(seed)
    vocabulary = json.loads((ASSETS / "pocket" / "tokenizer.json").read_text())["model"]["vocab"]
    words = [token[1:] for token in vocabulary if token[0] == "Ġ" and token[1:].isalpha()]
    often = [1 / rank for rank in range(1, len(words) + 1)]
    for length in tokens:
        text = draw.choices(words, often, k=length - 4)
        asked = max(1, round(len(text) * draw.uniform(0.3, 0.7)))
        yield [{"role": "user", "content": " ".join(text[:asked])}, {"role": "assistant", "content": " ".join(text[asked:])}]


def spec_of(home: Path, packing: bool = False, probed: bool = True, steps: int = 1, precision: str = "auto") -> TrainSpec:
    """What is not training happens before the first step or after the last. `probed`: with the probes that a spec has by default."""
    rows, longest = sizes_of(home)
    given = {
        "model": str(home / "model"),
        "data": {"path": str(home / "rows.jsonl"), "max_length": longest, "validation_share": 0.0},
        "adapter": {"method": "lora", "rank": 8, "alpha": 16, "dropout": 0.0},
        "update": {"method": "adamw", "lr": RATE, "beta2": BETA2, "clip": CLIP},
        "schedule": "constant", "warmup": 0.0, "steps": steps, "batch_size": PACKS if packing else rows, "packing": packing,
        "precision": precision, "evaluate_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "prompts": ["the"],
    }  # fmt: skip
    return TrainSpec.parse(given if probed else {**given, "probes": []})


def prepared_from(home: Path, precision: str = "auto") -> Prepared:
    """The model, the rows and the threads as the workbench's job has them."""
    return drain(prepare(spec_of(home, precision=precision), Workspace(home)))


def rows_of(home: Path) -> list[Encoded]:
    data = spec_of(home).data
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    rows = list(encode_all(tokenizer, load(data.path, Workspace(home)).examples, data.train_on, data.max_length))
    assert all(isinstance(row, Encoded) and any(row.trained[1:]) for row in rows)  # so that the job takes them all
    return rows


def epoch(home: Path, rows: list[Encoded], packing: bool = False) -> list[dict[str, Tensor]]:
    """The batches of one epoch as the workbench draws them, one a step; no part of a step is left over."""
    batches = Batches.of(rows, spec_of(home, packing), pad_id=0)
    assert batches.steps_per_epoch == int(batches.steps_per_epoch)
    return [batch for step in range(int(batches.steps_per_epoch)) for batch in batches.window(step + 1)]


def epoch_by_length(home: Path, rows: list[Encoded]) -> list[dict[str, Tensor]]:
    each, _ = sizes_of(home)
    return [pad(rows[start : start + each], 0) for start in range(0, len(rows), each)]


def without_padding(batches: Sequence[dict[str, Tensor]]) -> list[dict[str, list[int]]]:
    """The rows of padded batches in their order, as a data set of transformers has them."""
    rows = []
    for batch in batches:
        for ids, labels, length in zip(batch["input_ids"], batch["labels"], batch["attention_mask"].sum(1).tolist(), strict=True):
            rows.append({"input_ids": ids[:length].tolist(), "attention_mask": [1] * length, "labels": labels[:length].tolist()})
    return rows


def real_tokens(batches: Sequence[dict[str, Tensor]]) -> int:
    return sum(int(batch["attention_mask"].sum()) for batch in batches)


def about(home: Path) -> dict[str, float]:
    rows = rows_of(home)
    tokens = sum(len(row.ids) for row in rows)
    batches = {"padded": epoch(home, rows), "by_length": epoch_by_length(home, rows), "packed": epoch(home, rows, packing=True)}
    return {
        "rows": len(rows),
        "tokens": tokens,
        "median_length": statistics.median(len(row.ids) for row in rows),
        "longest": max(len(row.ids) for row in rows),
        "learnt_share": sum(sum(row.trained) for row in rows) / tokens,
        **{f"useful_share_{how}": tokens / sum(batch["labels"].numel() for batch in found) for how, found in batches.items()},
    }


# What shows that a run has trained: each leaves adapter/ of peft, and Adam's second moments where the workbench's checkpoint has them.


def keep_state(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    state = {f"{index}.{name}": held[name] for index, held in optimizer.state_dict()["state"].items() for name in ("exp_avg_sq", "step")}
    (folder / STATE).parent.mkdir(parents=True)
    save_file({f"optimizer/{name}": value for name, value in state.items()}, folder / STATE)


def what_was_learnt(home: Path, folder: Path) -> dict[str, Any]:
    """`gradient`: its norm, the root mean square over the run. `moved`: the length of all B together, which began at 0."""
    state = load_file(folder / STATE)
    steps = int(state["optimizer/0.step"])
    squares = sum(moment.double().sum().item() for name, moment in state.items() if name.endswith(".exp_avg_sq"))
    prepared = prepared_from(home, "float32")
    rows = pad(prepared.train[:32], 0)
    before = loss_on(prepared.model, rows)
    tuned = PeftModel.from_pretrained(prepared.model, folder / "adapter")
    moved = [parameter.double().square().sum().item() for name, parameter in tuned.named_parameters() if "lora_B" in name]
    return {
        "steps": steps,
        "gradient": math.sqrt(squares / (1 - BETA2**steps)),
        "moved": math.sqrt(sum(moved)),
        "loss_before": before,
        "loss_after": loss_on(tuned, rows),
        "threads": torch.get_num_threads(),
    }


@torch.no_grad()
def loss_on(model: PreTrainedModel | PeftModel, rows: dict[str, Tensor]) -> float:
    return model.eval()(**rows).loss.item()
