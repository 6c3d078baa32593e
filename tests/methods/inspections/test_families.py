"""Inspections of activations and answers on other families than Llama and on models with modules beside: they work, or say why not."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from pico import make_model
from subjects import moved, subject
from test_every_family import FAMILIES
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.method import shelf
from workbench.core.picture import Finding
from workbench.materials.models import ModelRef, blocks
from workbench.materials.subject import Subject
from workbench.methods.adapters.mixlora import MixLoRA
from workbench.methods.adapters.parallel_adapter import ParallelAdapter
from workbench.methods.contracts import Adapter, Inspection

READING = {"tuco": {}, "delta_activations": {}, "layer_similarity": {}, "layer_patching": {}, "counting_bias": {}, "generalization": {}}
ANSWERING = {"where_answers_part": {"most_tokens": 3}, "safety_drift": {"most_tokens": 3}}
NEURONS = {"instruction_neurons": {"threshold": 0.6}, "h_neurons": {}}
SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": None, "eos_token_id": 1}
MORE = {
    "opt": lambda: OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, max_position_embeddings=256, do_layer_norm_before=True),
    "neox": lambda: GPTNeoXConfig(**SMALL, intermediate_size=64, max_position_embeddings=256),
    "qwen3": lambda: Qwen3Config(**SMALL, intermediate_size=64, num_key_value_heads=2, head_dim=8, max_position_embeddings=256),
}


def config_of(family: str) -> PreTrainedConfig:
    """A tiny one with the vocabulary and the room of the pico tokenizer's rows."""
    if family in MORE:
        return MORE[family]()
    config = FAMILIES[family]().config
    config.update({"vocab_size": 400, "n_positions" if family == "gpt2" else "max_position_embeddings": 256})
    return config


@torch.no_grad()
def of_family(family: str, by: float) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family)).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    for block in blocks(model):
        for parameter in block.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))
    return model


def finds(laid: Subject, name: str, knobs: dict[str, Any]) -> Finding:
    inspection = shelf("inspections")[name](**knobs)
    assert isinstance(inspection, Inspection)
    finding: Finding = drain(inspection.inspect(laid))
    json.dumps(asdict(finding), allow_nan=False)
    if name not in ANSWERING:  # whose few tokens may be the same
        for number, value in inspection.still.items():
            assert finding.numbers[laid.labels[0]][number] != value, f"{name} finds no change"
    return finding


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_other_families_than_llama(family: str, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [moved(0.01)], count=5)
    laid.base, laid._last = of_family(family, 0.0), (0, of_family(family, 0.05))  # type: ignore[misc]
    for name, knobs in {**READING, **ANSWERING}.items():
        finds(laid, name, knobs)
    for name, knobs in NEURONS.items():
        if family == "mixtral":
            with pytest.raises(WorkbenchError, match=r"among experts.*choose"):
                finds(laid, name, knobs)
        else:
            finds(laid, name, knobs)


@pytest.mark.parametrize("adapter", [MixLoRA(experts=2, per_token=1), ParallelAdapter()], ids=["mixlora", "parallel_adapter"])
def test_an_adapter_whose_modules_stay_beside(adapter: Adapter, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    laid = subject(tmp_path, pico_tokenizer, [], count=5)
    attachment, draw = adapter.attach(make_model(), 0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in attachment.trained():
            parameter.normal_(std=0.05, generator=draw)
    (tmp_path / "adapter").mkdir()
    attachment.save(tmp_path / "adapter")
    base = laid.refs[0]
    laid = Subject(base, [ModelRef("tuned", "tuned", base.path, tmp_path / "adapter")], laid.rows, laid.examples)
    for name, knobs in {**READING, **ANSWERING}.items():
        finds(laid, name, knobs)
    for name, knobs in NEURONS.items():
        if isinstance(adapter, MixLoRA):
            with pytest.raises(WorkbenchError, match=r"among experts.*choose"):
                finds(laid, name, knobs)
        else:
            finds(laid, name, knobs)
