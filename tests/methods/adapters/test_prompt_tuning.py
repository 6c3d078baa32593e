"""Prompt tuning (arXiv:2104.08691): the model says what it says after the tokens that are learnt, in every way a text is read."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from pico import make_model
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.jobs import varlen
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.prompt_tuning import PromptTuning

IDS = torch.arange(5, 29).reshape(2, 12)
BEFORE = torch.randint(400, (5,), generator=torch.Generator().manual_seed(3))


def gemma() -> PreTrainedModel:
    torch.manual_seed(0)
    small = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    return Gemma2ForCausalLM(Gemma2Config(**small, num_key_value_heads=2, head_dim=8)).eval()


@torch.no_grad()
def said(model: nn.Module, ids: Tensor = IDS, **more: object) -> Tensor:
    return model.eval()(ids, **more).logits


def attached(model: PreTrainedModel | None = None) -> InsertedAttachment:
    return PromptTuning(tokens=5).attach(model or make_model(), seed=3)


def moved() -> InsertedAttachment:
    attachment = attached()
    ((_, prompt),) = attachment.trained()
    nn.init.normal_(prompt, generator=torch.Generator().manual_seed(1))
    return attachment


@pytest.mark.parametrize("make", [make_model, gemma])
def test_at_the_start_the_model_says_what_it_says_after_the_words_that_were_drawn(make: object) -> None:
    after_words = said(make(), torch.cat([BEFORE.expand(2, -1), IDS], 1))[:, len(BEFORE) :]
    attachment = attached(make())
    assert torch.allclose(said(attachment.model), after_words, atol=1e-5)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make()))


def test_what_it_says_and_how_it_learns_is_that_of_peft() -> None:
    attachment = moved()
    ((_, prompt),) = attachment.trained()
    theirs = get_peft_model(make_model(), PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM")).eval()
    theirs.prompt_encoder["default"].embedding.weight.data = prompt.detach().clone()
    mask = torch.ones_like(IDS)
    mask[1, 9:] = 0
    labels = IDS.where(mask == 1, -100)
    labels[:, 0] = -100  # which peft has the last of the prompt predict
    given = {"input_ids": IDS, "attention_mask": mask, "labels": labels}
    ours, his = attachment.model(**given), theirs(**given)
    assert torch.allclose(ours.logits[0], his.logits[0, 5:], atol=1e-5)
    ours.loss.backward()
    his.loss.backward()
    assert torch.allclose(prompt.grad, theirs.prompt_encoder["default"].embedding.weight.grad, atol=1e-6)


def test_an_answer_goes_on_from_its_cache_which_holds_the_text_alone() -> None:
    model = moved().model
    with torch.no_grad():
        first = model(IDS[:, :7], use_cache=True)
        several = model(IDS[:, 7:10], past_key_values=first.past_key_values, use_cache=True)
        one = model(IDS[:, 10:11], past_key_values=several.past_key_values, use_cache=True)
    assert one.past_key_values.get_seq_length() == 11
    whole = said(model)
    assert torch.allclose(several.logits, whole[:, 7:10], atol=1e-5) and torch.allclose(one.logits, whole[:, 10:11], atol=1e-5)
    answer, again = model.generate(IDS[:1], max_new_tokens=4, do_sample=False, eos_token_id=None), IDS[:1]
    for _ in range(4):
        again = torch.cat([again, said(model, again)[:, -1:].argmax(-1)], 1)
    assert torch.equal(answer, again)


def test_it_opens_with_what_it_learnt_and_a_copy_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    attachment = moved()
    make_model().save_pretrained(tmp_path / "base")
    (tmp_path / "saved").mkdir()
    attachment.save(tmp_path / "saved")
    loaded = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert torch.equal(said(loaded), said(attachment.model)) and not torch.allclose(said(loaded), said(make_model()), atol=1e-2)
    attachment.model(IDS)
    before, other = said(attachment.model), copy.deepcopy(attachment.model)
    nn.init.zeros_(other.get_parameter("model.beside.prompt"))
    assert not torch.allclose(said(other), before, atol=1e-3) and torch.equal(said(attachment.model), before)


def test_it_counts_the_width_of_the_model_for_each_token_and_moves_nothing_else() -> None:
    model, random = make_model(), torch.get_rng_state()
    attachment = attached(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert PromptTuning(tokens=5).cost(make_model()).trained == 5 * 32 == sum(own.numel() for _, own in attachment.trained())


def test_packed_rows_and_attentions_of_another_kind_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="leave packing off"):
        TrainSpec(adapter="prompt_tuning", packing=True)
    model = make_model()
    attached(model)
    apart = varlen.install(model)
    with pytest.raises(WorkbenchError, match="Switch packing off"):
        model.model(IDS[:1], position_ids=torch.arange(6).repeat(2)[None], use_cache=False)
    apart.restore()
    odd = make_model()
    odd.model.layers[1].self_attn = nn.Identity()
    with pytest.raises(WorkbenchError, match="another adapter"):
        PromptTuning().cost(odd)
