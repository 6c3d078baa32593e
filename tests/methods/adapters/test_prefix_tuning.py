"""Prefix tuning (arXiv:2101.00190): keys and values before the text, which starts as real words and reads, in every way a text is read."""

from pathlib import Path

import pytest
import torch
from pico import make_model
from torch import Tensor, nn
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.core.spec import TrainSpec
from workbench.jobs import varlen
from workbench.materials.inserted import InsertedAttachment
from workbench.materials.models import ModelRef, load
from workbench.methods.adapters.prefix_tuning import PrefixTuning

IDS = torch.arange(5, 29).reshape(2, 12)
BEFORE = torch.randint(400, (5,), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def said(model: nn.Module, ids: Tensor = IDS, **more: object) -> Tensor:
    return model.eval()(ids, **more).logits


def attached(model: PreTrainedModel | None = None, tokens: int = 5, seed: int = 3) -> InsertedAttachment:
    return PrefixTuning(tokens=tokens).attach(model or make_model(), seed)


def moved(model: PreTrainedModel | None = None) -> InsertedAttachment:
    attachment, generator = attached(model), torch.Generator().manual_seed(1)
    for _, numbers in attachment.trained():
        nn.init.normal_(numbers, generator=generator)
    return attachment


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_at_the_start_the_model_says_what_it_says_after_the_words_that_were_drawn(kind: str) -> None:
    """Of which the base reads nothing itself: one softmax over both, positions in their order. Gemma 2 adds its masks and caps scores."""

    def make() -> PreTrainedModel:
        torch.manual_seed(0)
        small = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
        return make_model() if kind == "llama" else Gemma2ForCausalLM(Gemma2Config(**small, num_key_value_heads=2, head_dim=8)).eval()

    after_words = said(make(), torch.cat([BEFORE.expand(2, -1), IDS], 1))[:, len(BEFORE) :]
    assert torch.allclose(said(attached(make()).model), after_words, atol=1e-5)


def test_what_attention_says_is_the_formula() -> None:
    attachment = moved()
    host = attachment.model.model.layers[1].self_attn
    own = attachment.modules["model.layers.1.self_attn"]
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(2))
    still = torch.ones(1, 6, 8), torch.zeros(1, 6, 8)  # nothing is turned
    with torch.no_grad():
        given = host(hidden_states=x, position_embeddings=still, attention_mask=None)[0][0]
        q, k, v = (part(x)[0].unflatten(-1, (-1, 8)) for part in (host.q_proj, host.k_proj, host.v_proj))
        wanted = []
        for token in range(6):
            heads = []
            for head in range(4):
                keys = torch.cat([own.keys[head // 2], k[: token + 1, head // 2]])
                values = torch.cat([own.values[head // 2], v[: token + 1, head // 2]])
                heads.append((q[token, head] @ keys.T / 8**0.5).softmax(-1) @ values)
            wanted.append(host.o_proj(torch.cat(heads)))
    assert torch.allclose(given, torch.stack(wanted), atol=1e-5)


def test_no_token_sees_what_comes_after_it_and_what_fills_up_is_seen_by_none() -> None:
    model = moved().model
    other = torch.cat([IDS[:, :8], IDS[:, 8:].flip(1)], 1)
    assert torch.allclose(said(model)[:, :8], said(model, other)[:, :8], atol=1e-6)
    mask = torch.ones_like(IDS)
    mask[:, 8:] = 0
    assert torch.allclose(said(model, other, attention_mask=mask)[:, :8], said(model, IDS[:, :8]), atol=1e-5)
    left = torch.cat([torch.zeros(2, 3, dtype=torch.long), IDS], 1)
    shown = {"attention_mask": (left > 0).long(), "position_ids": (torch.arange(15) - 3).clamp(min=0).expand(2, -1)}
    assert torch.allclose(said(model, left, **shown)[:, 3:], said(model), atol=1e-5), "filled up on the left, as prompts are"


def test_an_answer_goes_on_from_its_cache_which_holds_the_text_alone() -> None:
    model = moved().model
    with torch.no_grad():
        first = model(IDS[:, :7], use_cache=True)
        several = model(IDS[:, 7:10], past_key_values=first.past_key_values, use_cache=True)
        one = model(IDS[:, 10:11], past_key_values=several.past_key_values, use_cache=True)
    assert one.past_key_values.get_seq_length() == 11 and one.past_key_values.layers[0].keys.shape[2] == 11
    whole = said(model)
    assert torch.allclose(several.logits, whole[:, 7:10], atol=1e-5) and torch.allclose(one.logits, whole[:, 10:11], atol=1e-5)
    said_so = model.generate(IDS[:1], max_new_tokens=4, do_sample=False, eos_token_id=None)
    again = IDS[:1]
    for _ in range(4):
        again = torch.cat([again, said(model, again)[:, -1:].argmax(-1)], 1)
    assert torch.equal(said_so, again)


def test_it_opens_with_what_it_learnt_and_touches_no_random_state(tmp_path: Path) -> None:
    model, random = make_model(), torch.get_rng_state()
    attached(model)
    assert torch.equal(torch.get_rng_state(), random)
    attachment = moved()
    make_model().save_pretrained(tmp_path / "base")
    (tmp_path / "saved").mkdir()
    attachment.save(tmp_path / "saved")
    loaded = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    assert torch.equal(said(loaded), said(attachment.model)) and not torch.allclose(said(loaded), said(make_model()), atol=1e-2)
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make_model()))


def test_it_counts_two_numbers_a_place_of_each_head_that_keys_and_values_have() -> None:
    assert PrefixTuning(tokens=7).cost(make_model()).trained == 3 * 2 * 7 * 2 * 8


def test_a_model_with_a_table_of_positions_learns_one_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()
    attachment = attached(model)
    attachment.model(IDS % 50, labels=IDS % 50).loss.backward()
    assert all(own.grad is not None and own.grad.any() for _, own in attachment.trained())


def test_packed_rows_and_attentions_of_another_kind_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="leave packing off"):
        TrainSpec(adapter="prefix_tuning", packing=True)
    model = make_model()
    attached(model)
    apart = varlen.install(model)
    places = torch.arange(6).repeat(2)[None]
    with pytest.raises(WorkbenchError, match="Switch packing off"):
        model.model(IDS[:1], position_ids=places, use_cache=False)
    apart.restore()
    odd = make_model()
    odd.model.layers[1].self_attn = nn.Identity()
    with pytest.raises(WorkbenchError, match="another adapter"):
        PrefixTuning().cost(odd)
