"""What `train_gpu.py` and `probe.py` train: models of known shapes with random weights, chat-like rows, and what shows that one trained.

No weights are fetched and none are written: `from_pretrained` is answered with a model made in memory from the config, the same one in
every process (`in_memory`), so that the workbench's own job runs as it does for a model on the disk. Speed and memory do not hang
on the values of weights. Row lengths are log-normal (median 110 tokens, sigma 0.65, at most 512), the law of chats; a step is eight packs
of 2,048 tokens, or 128 rows for whoever does not pack, which is some 5 % more tokens. A forward pass of a contender has at most as
many positions as one of packs: 16,384, of the 8 B shape 4,096, so that none needs to recompute its activations.
"""

import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import told
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_cpu_case import STATE, conversations
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from workbench.core.spec import TrainSpec
from workbench.core.workspace import ASSETS, Workspace
from workbench.jobs.batches import Batches
from workbench.materials.corpus import load
from workbench.materials.packing import pad
from workbench.materials.templates import Encoded, encode_all

LENGTH, PACK, ROWS_OF_A_PACK = 512, 2048, 16
RANK, ALPHA, RATE, BETA2, CLIP = 32, 64, 1e-3, 0.999, 100.0  # the clip takes its time but binds nothing, so that moments show gradients
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHOWN = 32  # rows on which the loss is read before and after


@dataclass(frozen=True)
class Shape:
    """`config` as config.json has it; `packs` in a forward pass, `passes` in a step."""

    config: dict[str, Any]
    packs: int = 8
    passes: int = 1

    @property
    def rows(self) -> int:
        """Of a forward pass of whoever pads: as many positions, if all are of the greatest length."""
        return self.packs * PACK // LENGTH

    @property
    def rows_of_a_step(self) -> int:
        return self.packs * self.passes * ROWS_OF_A_PACK


def numbers() -> torch.dtype:
    """Of the frozen weights, for everyone."""
    return torch.bfloat16 if told.device() == "cuda" else torch.float32


def config(kind: str, vocabulary: int, width: int, inner: int, layers: int, heads: int, key_heads: int, tied: bool = True) -> dict:
    return {
        "model_type": kind, "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": 4096, "tie_word_embeddings": tied,
        "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "dtype": str(numbers()).removeprefix("torch."),
    }  # fmt: skip


SHAPES = {
    "Qwen2.5-0.5B": Shape(config("qwen2", 151_936, 896, 4864, 24, 14, 2)),
    "Llama-3.2-1B": Shape(config("llama", 128_256, 2048, 8192, 16, 32, 8)),
    "Llama-3.1-8B": Shape(config("llama", 128_256, 4096, 14_336, 32, 32, 8, tied=False), packs=2, passes=4),
    "tiny": Shape(config("llama", 4_096, 64, 176, 2, 4, 2), packs=1),  # to see that everything runs, without a GPU
}


def make(home: Path, name: str, steps: int, seed: int = 0) -> None:
    """The model's folder without its weights, and the rows of all steps."""
    shape, draw = SHAPES[name], random.Random(seed)
    (home / "model").mkdir(parents=True)
    (home / "model" / "config.json").write_text(json.dumps(shape.config))
    save_file({}, home / "model" / "model.safetensors")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ASSETS / "pocket" / file, home / "model" / file)
    tokens = [max(8, min(LENGTH, round(draw.lognormvariate(4.7, 0.65)))) for _ in range(steps * shape.rows_of_a_step)]
    lines = (json.dumps({"messages": messages}) for messages in conversations(tokens, seed))
    (home / "rows.jsonl").write_text("\n".join(lines) + "\n")


@contextmanager
def in_memory(home: Path) -> Iterator[None]:
    """Whoever loads the model of this folder is given a new one with the weights of seed 0, on the GPU if there is one."""

    def made(path: str, dtype: torch.dtype, **_: Any) -> PreTrainedModel:
        assert Path(path) == home / "model", path
        torch.manual_seed(0)
        with torch.device(told.device()):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=dtype)

    with patch.object(AutoModelForCausalLM, "from_pretrained", made):
        yield


def model(home: Path) -> PreTrainedModel:
    with in_memory(home):
        return AutoModelForCausalLM.from_pretrained(str(home / "model"), dtype=numbers())


def spec_of(home: Path, name: str, steps: int, probes: list[str]) -> TrainSpec:
    """The workbench's run, packed; what is not training happens before the first step or after the last."""
    shape = SHAPES[name]
    return TrainSpec.parse(
        {
            "model": str(home / "model"),
            "data": {"path": str(home / "rows.jsonl"), "max_length": PACK, "validation_share": 0.0},
            "adapter": {"method": "lora", "rank": RANK, "alpha": ALPHA, "dropout": 0.0},
            "update": {"method": "adamw", "lr": RATE, "beta2": BETA2, "clip": CLIP},
            "schedule": "constant", "warmup": 0.0, "steps": steps, "packing": True, "batch_size": shape.packs, "accumulate": shape.passes,
            "evaluate_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "prompts": ["the"], "probes": probes,
        }
    )  # fmt: skip


def rows_of(home: Path) -> list[Encoded]:
    data = TrainSpec.parse({"data": {"max_length": PACK}}).data
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    rows = list(encode_all(tokenizer, load(str(home / "rows.jsonl"), Workspace(home)).examples, data.train_on, data.max_length))
    assert all(isinstance(row, Encoded) and any(row.trained[1:]) for row in rows)  # so that the job takes them all
    return rows


def tokens_of_packed_steps(home: Path, name: str, steps: int) -> list[int]:
    """Real tokens of every step of the workbench's run."""
    batches = Batches.of(rows_of(home), spec_of(home, name, steps, []), pad_id=0)
    return [sum(int((batch["rows"] >= 0).sum()) for batch in batches.window(step)) for step in range(1, steps + 1)]


def about(home: Path) -> dict[str, float]:
    rows = rows_of(home)
    tokens = sum(len(row.ids) for row in rows)
    lengths = sorted(len(row.ids) for row in rows)
    learnt = sum(sum(row.trained) for row in rows) / tokens
    return {"rows": len(rows), "tokens": tokens, "median_length": lengths[len(rows) // 2], "longest": lengths[-1], "learnt_share": learnt}


# What shows that a run has trained: each leaves adapter/ of peft, and Adam's second moments where the workbench's checkpoint has them.


def what_was_learnt(home: Path, folder: Path) -> dict[str, Any]:
    """`gradient`: its norm, the root mean square over the run. `moved`: the length of all B together, which began at 0."""
    state = load_file(folder / STATE)
    steps = int(state["optimizer/0.step"])
    squares = sum(moment.double().sum().item() for name, moment in state.items() if name.endswith(".exp_avg_sq"))
    base, rows = model(home), rows_of(home)[:SHOWN]
    before = loss_on(base, rows)
    tuned = PeftModel.from_pretrained(base, folder / "adapter")
    moved = [parameter.double().square().sum().item() for name, parameter in tuned.named_parameters() if "lora_B" in name]
    return {
        "steps": steps,
        "gradient": math.sqrt(squares / (1 - BETA2**steps)),
        "moved": math.sqrt(sum(moved)),
        "loss_before": before,
        "loss_after": loss_on(tuned, rows),
        "dtype": str(base.dtype),
    }


@torch.no_grad()
def loss_on(model: PreTrainedModel | PeftModel, rows: list[Encoded]) -> float:
    """transformers' own loss, in nats a learnt token, four rows at a time."""
    total = count = 0.0
    for start in range(0, len(rows), 4):
        batch = {name: tensor.to(model.device) for name, tensor in pad(rows[start : start + 4], 0).items()}
        learnt = int((batch["labels"][:, 1:] != -100).sum())
        total += model.eval()(**batch).loss.item() * learnt
        count += learnt
    return total / count


def real_tokens(batch: dict[str, Tensor]) -> int:
    return int(batch["attention_mask"].sum())


def offline() -> dict[str, str]:
    """The environment of a process that may not look for anything on the hub."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
