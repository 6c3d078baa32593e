"""What `train_cpu.py` trains: a Llama with random weights, rows of chat-like lengths, and the spec; all made in a folder.

Row lengths are log-normal (median 110 tokens, sigma 0.65, at most 512), the law of chats; the words are drawn by Zipf's law from
the demo model's vocabulary, and the answer, which is learnt, is on average half of a row. The number of packs is a multiple of
what a step takes, so that one epoch is every row once for whoever packs as for whoever pads.
"""

import json
import random
import shutil
import statistics
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from workbench.core.spec import TrainSpec
from workbench.core.workspace import ASSETS, Workspace
from workbench.jobs.batches import Batches
from workbench.jobs.prepare import Prepared, encoded, prepare, selected
from workbench.materials.packing import pack
from workbench.materials.templates import Encoded
from workbench.methods.contracts import drain

SHAPES = {"7M": (8, 4_096), "13M": (6, 32_000)}  # case → layers, vocabulary
LENGTH, ROWS, PACKS = 512, 16, 4  # longest row and size of a pack; rows or packs in a step, about as many tokens either way
RATE, BETA2 = 1e-3, 0.999


def make(home: Path, case: str, steps: int) -> None:
    layers, vocabulary = SHAPES[case]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=704, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=LENGTH, tie_word_embeddings=True, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(home / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(ASSETS / "pocket" / name, home / "model" / name)
    for seed in count():
        lines = (json.dumps({"messages": messages}) for messages in conversations(steps * ROWS, seed))
        (home / "rows.jsonl").write_text("\n".join(lines) + "\n")
        if len(pack(rows_of(home), LENGTH)) % PACKS == 0:
            return


def conversations(rows: int, seed: int) -> Iterator[list[dict[str, str]]]:
    """Questions and answers of words that are one token each; the template's four marks are tokens too."""
    draw = random.Random(seed)
    vocabulary = json.loads((ASSETS / "pocket" / "tokenizer.json").read_text())["model"]["vocab"]
    words = [token[1:] for token in vocabulary if token[0] == "Ġ" and token[1:].isalpha()]
    often = [1 / rank for rank in range(1, len(words) + 1)]
    for _ in range(rows):
        length = max(8, min(LENGTH, round(draw.lognormvariate(4.7, 0.65)))) - 4
        asked = max(1, round(length * draw.uniform(0.3, 0.7)))
        text = draw.choices(words, often, k=length)
        yield [{"role": "user", "content": " ".join(text[:asked])}, {"role": "assistant", "content": " ".join(text[asked:])}]


def spec_of(home: Path, packing: bool = False, probed: bool = True, steps: int = 1) -> TrainSpec:
    """What is not training happens before the first step or after the last. `probed`: with the probes that a spec has by default."""
    given = {
        "model": str(home / "model"),
        "data": {"path": str(home / "rows.jsonl"), "max_length": LENGTH, "validation_share": 0.0},
        "adapter": {"method": "lora", "rank": 8, "alpha": 16, "dropout": 0.0},
        "update": {"method": "adamw", "lr": RATE, "beta2": BETA2, "clip": 1.0},
        "schedule": "constant", "warmup": 0.0, "steps": steps, "batch_size": PACKS if packing else ROWS, "packing": packing,
        "evaluate_every": 10**6, "sample_every": 10**6, "checkpoint_every": 10**6, "prompts": ["the"],
    }  # fmt: skip
    return TrainSpec.parse(given if probed else {**given, "probes": []})


def prepared_from(home: Path) -> Prepared:
    """The model, the rows and the threads as the workbench's job has them."""
    return drain(prepare(spec_of(home), Workspace(home)))


def rows_of(home: Path) -> list[Encoded]:
    data = spec_of(home).data
    return drain(encoded(AutoTokenizer.from_pretrained(home / "model"), drain(selected(data, Workspace(home))), data))


def batches_of(home: Path, rows: list[Encoded], packing: bool = False) -> Batches:
    return Batches.of(rows, spec_of(home, packing), pad_id=0)


def whole(batches: Batches) -> int:
    """The steps of one epoch, which leaves no part of a step over."""
    assert batches.steps_per_epoch == int(batches.steps_per_epoch)
    return int(batches.steps_per_epoch)


def about(home: Path) -> dict[str, float]:
    """`useful`: the share of a forward pass's places that hold a token of a row."""
    rows = rows_of(home)
    tokens = sum(len(row.ids) for row in rows)
    padded, in_packs = (batches_of(home, rows, packing) for packing in (False, True))
    return {
        "rows": len(rows),
        "tokens": tokens,
        "median_length": statistics.median(len(row.ids) for row in rows),
        "longest": max(len(row.ids) for row in rows),
        "learnt": sum(sum(row.trained) for row in rows) / tokens,
        "useful_padded": tokens / places(padded),
        "useful_packed": tokens / places(in_packs),
        "steps_padded": whole(padded),
        "steps_packed": whole(in_packs),
    }


def places(batches: Batches) -> int:
    return sum(batch["labels"].numel() for step in range(whole(batches)) for batch in batches.window(step + 1))
