"""Every adapter on models of other families than Llama: it works, or says in a sentence why it cannot.

What the families bring: Conv1D matrices stored the other way round and biases (GPT-2), norms before and after with gains from zero
(Gemma 2), queries, keys and values in one matrix (Phi-3), mixtures of experts (Mixtral). The models are tiny and random.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_every_method import ROWS, attached, named, on
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from workbench.core.errors import WorkbenchError
from workbench.core.method import Method

SMALL = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=32, n_layer=4, n_head=4, n_positions=64, eos_token_id=1)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**SMALL)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**SMALL, num_local_experts=4)),
}
IDS = torch.tensor([row.ids for row in ROWS])


def answer(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_it_works_or_says_why_it_cannot(method: type[Method], family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    before = answer(model)
    try:
        with torch.device("meta"):
            cost = method().cost(FAMILIES[family]())
        attachment = attached(method, model)
    except WorkbenchError as error:
        assert str(error).count(". ") >= 1, "what is wrong, and what to do"
        return
    assert torch.equal(answer(attachment.model), before) == method.starts_at_base
    assert cost.trained >= sum(parameter.numel() for _, parameter in attachment.trained()) > 0
    optimizer = torch.optim.Adam([parameter for group in attachment.groups() for parameter in group["params"]], lr=1e-2)
    for step in (1, 2):
        attachment.model(input_ids=IDS, labels=IDS).loss.backward()
        attachment.before_step(step)
        optimizer.step()
        attachment.after_step(step)
        optimizer.zero_grad()
    assert not torch.equal(answer(attachment.model), before)
    with attachment.base():
        assert torch.equal(answer(attachment.model), before)
    attachment.save(tmp_path)
    assert list(tmp_path.glob("*.safetensors"))


def test_few_are_refused() -> None:
    """So that a sentence does not become the usual answer."""
    refused = 0
    for make in FAMILIES.values():
        for method in on("adapters"):
            try:
                with torch.device("meta"):
                    method().cost(make())
            except WorkbenchError:
                refused += 1
    assert refused <= 12, f"{refused} of {len(FAMILIES) * len(on('adapters'))}"
