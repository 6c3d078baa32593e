"""Models of one base in one batch: each says what it says by itself, whatever it was made by, and only what differs is held."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pico import make_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.core.beside import Unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.job import drain
from workbench.core.method import SHELVES, discover
from workbench.jobs import gathering
from workbench.jobs.gathering import Cast
from workbench.materials import few_rows
from workbench.materials.choir import LowRank, Sparse
from workbench.materials.chorus import Chorus
from workbench.materials.evidence import Evidence
from workbench.materials.models import ModelRef, load
from workbench.materials.speakers import Singer
from workbench.materials.templates import Encoded
from workbench.methods.contracts import Adapter, Informed

discover()
CPU = torch.device("cpu")
ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
TEXTS = [[7, 8, 9, 10, 11], [7, 8], [30, 31, 32, 33, 34, 35, 36], [12, 13, 14]]
Said = Callable[[Sequence[int]], Tensor]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def base(tmp_path: Path) -> ModelRef:
    make_model().save_pretrained(tmp_path / "base")
    return ModelRef("base", "base", str(tmp_path / "base"))


@pytest.fixture
def tuned(tmp_path: Path, base: ModelRef, pico_batch: dict[str, Tensor]) -> Callable[..., ModelRef]:
    """A function that tunes the base a little and saves what was learnt; every number that moves is moved."""

    def build(method: str, **knobs: object) -> ModelRef:
        adapter: Adapter = SHELVES["adapters"][method](**knobs)  # type: ignore[assignment]
        model = AutoModelForCausalLM.from_pretrained(base.path)
        with torch.enable_grad():
            if isinstance(adapter, Informed):
                rows = dict.fromkeys(adapter.looks_at(), ROWS)
                attachment = adapter.attach(model, 0, drain(adapter.study(model, Evidence(rows, 0, CPU))))
            else:
                attachment = adapter.attach(model, 0)
            optimizer = torch.optim.SGD([parameter for group in attachment.groups() for parameter in group["params"]], lr=0.5)
            for step in (1, 2):
                attachment.model(**pico_batch).loss.backward()
                attachment.before_step(step)
                optimizer.step()
                attachment.after_step(step)
                optimizer.zero_grad()
        folder = tmp_path / f"{method}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        attachment.save(folder)
        return ModelRef(method, method, str(folder)) if adapter.whole else ModelRef(method, method, base.path, folder)

    return build


def gathered(refs: Sequence[ModelRef], tokenizer: PreTrainedTokenizerFast) -> Cast:
    cast = Cast(tokenizer)
    list(cast.gather(refs))
    return cast


def alone(ref: ModelRef) -> Said:
    model = load(ref, CPU, torch.float32)
    return lambda tokens: model(input_ids=torch.tensor([list(tokens)])).logits[0, -1]


def same_as_alone(cast: Cast, refs: Sequence[ModelRef], steps: int = 3) -> None:
    """In one batch, with texts of different lengths that grow; then one by one, with caches of their own."""
    expected = [alone(ref) for ref in refs]
    texts = [list(TEXTS[place % len(TEXTS)]) for place in range(len(refs))]
    choruses = [Chorus(choir) for choir in cast.choirs.values()]
    for step in range(steps):
        for chorus in choruses:
            chorus.hear({v: t for v, t in zip(cast.voices, texts, strict=True) if isinstance(v, Singer) and v.choir is chorus.choir})
        for voice, says, text in zip(cast.voices, expected, texts, strict=True):
            assert torch.allclose(voice.logits(text), says(text), atol=1e-5), f"{voice} at {step}"
        texts = [[*text, 40 + place + step] for place, text in enumerate(texts)]
    for voice, says in zip(cast.voices, expected, strict=True):
        assert torch.allclose(voice.anew().logits(TEXTS[0]), says(TEXTS[0]), atol=1e-5)


@pytest.mark.parametrize("method", sorted(SHELVES["adapters"]))
def test_what_every_adapter_makes_says_in_a_batch_what_it_says_by_itself(
    method: str, base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    refs = [base, tuned("lora", rank=3), tuned(method)]
    cast = gathered(refs, pico_tokenizer)
    same_as_alone(cast, refs)
    beside, longer = issubclass(SHELVES["adapters"][method], Unmergeable), method == "block_expansion"
    assert isinstance(cast.voices[2], Singer) != beside and len(cast.choirs) == 1 + longer
    assert not beside or not gathered(refs[2:], pico_tokenizer).choirs, "its base is not loaded a second time"


@pytest.mark.parametrize("tied", [True, False])
def test_a_merge_an_untied_head_and_a_model_of_the_same_shape_join_in(
    tied: bool, tmp_path: Path, make: Callable[..., str], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    paths = [
        make("one", tie_word_embeddings=tied),
        make("merged", 0.1, tie_word_embeddings=tied),
        make("apart", 0.1, tie_word_embeddings=not tied),
    ]
    refs = [ModelRef(path, path, path) for path in paths]
    cast = gathered(refs, pico_tokenizer)
    same_as_alone(cast, refs)
    assert len(cast.choirs) == 1 and all(isinstance(voice, Singer) for voice in cast.voices)
    part = cast.voices[1].part  # type: ignore[attr-defined]
    assert (part["lm_head.weight"] is part["model.embed_tokens.weight"]) == tied, "a tied tensor is held once"


def test_large_matrices_say_the_same_by_the_routine_for_few_rows(
    base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_rows, "LARGE", 0)
    refs = [base, tuned("lora"), tuned("full"), tuned("lift", budget=1)]
    cast = gathered(refs, pico_tokenizer)
    same_as_alone(cast, refs)
    cast.disband()
    assert not any("forward" in vars(module) for module in cast.voices[0].model.modules())


def test_an_adapter_whose_base_is_nobodys_own_pane_leads_the_others(
    base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    refs = [tuned("lora"), tuned("dora"), tuned("full")]
    cast = gathered(refs, pico_tokenizer)
    same_as_alone(cast, refs)
    assert [*cast.choirs] == [base.path]


def test_only_what_differs_is_held(base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast) -> None:
    refs = [base, tuned("lora", modules="q_proj"), tuned("lift", budget=1), tuned("layer_norm"), tuned("dora", modules="q_proj")]
    cast = gathered(refs, pico_tokenizer)
    lora, lift, norms, dora = (voice.part for voice in cast.voices[1:])  # type: ignore[attr-defined]
    assert set(lora) == {f"model.layers.{layer}.self_attn.q_proj.weight" for layer in range(3)}
    assert all(isinstance(change, LowRank) for change in [*lora.values(), *dora.values()]) and set(dora) == set(lora)
    assert lift and all(isinstance(change, Sparse) for change in lift.values())
    same_as_alone(cast, refs)
    assert set(norms) == {name for name, _ in cast.voices[0].model.named_parameters() if "layernorm" in name}


def test_a_lora_that_brings_its_own_embeddings_is_heard_with_them(
    base: ModelRef, tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    for number, (saved, tied) in enumerate([("embed_tokens", False), ("norm", False), ("lm_head", False), ("embed_tokens", True)]):
        config = LoraConfig(target_modules=["q_proj"], r=2, modules_to_save=[saved], ensure_weight_tying=tied)
        peft = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), config)
        torch.manual_seed(1)
        for parameter in peft.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter))
        peft.save_pretrained(tmp_path / str(number))
        refs = [base, ModelRef(saved, saved, base.path, tmp_path / str(number))]
        cast = gathered(refs, pico_tokenizer)
        same_as_alone(cast, refs)


@pytest.mark.parametrize("bias", ["none", "all"])
def test_a_dora_on_matrices_with_a_bias_leaves_the_bias_alone(
    bias: str, make: Callable[..., str], tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    path = make("biased", 0.1, attention_bias=True)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(path), LoraConfig(target_modules=["q_proj", "o_proj"], r=2, use_dora=True, bias=bias)
    )
    torch.manual_seed(1)
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter))
    peft.save_pretrained(tmp_path / "dora")
    refs = [ModelRef(path, path, path), ModelRef("dora", "dora", path, tmp_path / "dora")]
    cast = gathered(refs, pico_tokenizer)
    part = cast.voices[1].part  # type: ignore[attr-defined]
    assert all(isinstance(change, LowRank) == name.endswith("weight") for name, change in part.items())
    same_as_alone(cast, refs)


def test_who_stops_is_let_go_and_the_others_go_on(
    base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    refs = [base, tuned("lora"), tuned("full")]
    cast = gathered(refs, pico_tokenizer)
    chorus, texts = Chorus(next(iter(cast.choirs.values()))), dict(zip(cast.voices, TEXTS, strict=False))
    chorus.hear(texts)  # type: ignore[arg-type]
    left = {voice: [*text, 50] for voice, text in texts.items() if voice is not cast.voices[1]}
    chorus.hear(left)  # type: ignore[arg-type]
    assert len(chorus.rows) == 2 and chorus.cache.layers[0].keys.shape[0] == 2
    for voice, ref in ((cast.voices[0], refs[0]), (cast.voices[2], refs[2])):
        assert torch.allclose(voice.logits(left[voice]), alone(ref)(left[voice]), atol=1e-5)
    chorus.hear({})
    chorus.hear({cast.voices[1]: TEXTS[2]})  # type: ignore[dict-item]
    assert torch.allclose(cast.voices[1].logits(TEXTS[2]), alone(refs[1])(TEXTS[2]), atol=1e-5)
    chorus.hear({cast.voices[1]: [*TEXTS[2], 50], cast.voices[0]: TEXTS[1]})  # type: ignore[dict-item]
    assert len(chorus.rows) == 2, "one goes on, and another joins it"
    for text in ([*range(60, 70)], [*range(80, 92)]):  # all of them again, then a text that does not go on from the last
        chorus.hear(dict.fromkeys(cast.voices, text))  # type: ignore[arg-type]
        assert len(chorus.rows) == 3
        for voice, ref in zip(cast.voices, refs, strict=True):
            assert torch.allclose(voice.logits(text), alone(ref)(text), atol=1e-5)


def test_when_it_is_over_the_model_is_itself_again(
    base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    cast = gathered([base, tuned("lora"), tuned("full")], pico_tokenizer)
    model = cast.voices[0].model
    before = alone(base)(TEXTS[0])
    cast.voices[2].logits(TEXTS[0])
    cast.disband()
    assert torch.equal(model(input_ids=torch.tensor([TEXTS[0]])).logits[0, -1], before)
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_family_that_counts_positions_from_the_start_is_told_them(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> None:
    shape = {"vocab_size": 400, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None, "eos_token_id": 1}
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(GPT2Config(**shape))
        model.transformer.wpe.weight.mul_(20)
        model.save_pretrained(tmp_path / str(seed))
    peft = get_peft_model(model, LoraConfig(target_modules=["c_attn"], r=2, fan_in_fan_out=True, init_lora_weights=False))
    peft.save_pretrained(tmp_path / "lora")
    paths = [str(tmp_path / str(seed)) for seed in (0, 1)]
    refs = [*(ModelRef(path, path, path) for path in paths), ModelRef("lora", "lora", paths[1], tmp_path / "lora")]
    cast = gathered(refs, pico_tokenizer)
    same_as_alone(cast, refs)


def test_models_of_other_shapes_and_settings_stay_by_themselves(make: Callable[..., str], pico_tokenizer: PreTrainedTokenizerFast) -> None:
    paths = [make("one"), make("wide", intermediate_size=48), make("turned", rope_theta=500.0)]
    refs = [ModelRef(path, path, path) for path in paths]
    cast = gathered(refs, pico_tokenizer)
    assert len(cast.choirs) == 3
    same_as_alone(cast, refs)


def test_more_than_the_machine_has_is_refused_with_the_sum(
    base: ModelRef, tuned: Callable[..., ModelRef], pico_tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = 4 * sum(parameter.numel() for parameter in make_model().parameters())
    lora, full = tuned("lora", rank=2, modules="q_proj"), tuned("full")
    factors = 2 * 4 * 3 * 2 * (32 + 32)
    monkeypatch.setattr(gathering, "free", lambda: 2 * one + factors)
    gathered([base, lora, full], pico_tokenizer)
    monkeypatch.setattr(gathering, "free", lambda: 2 * one + factors - 1)
    with pytest.raises(
        WorkbenchError, match=r"needs 328 kB for base \(163 kB\) \+ lora \(3.07 kB\) \+ full \(163 kB\), and .* free\. Choose fewer"
    ):
        gathered([base, lora, full], pico_tokenizer)
