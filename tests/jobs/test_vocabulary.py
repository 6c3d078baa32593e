"""Models with different vocabularies in one merge: rows go by their tokens, and the tokenizer that comes out knows them all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from merged import read, run, spec_of
from peft import LoraConfig, get_peft_model
from pico import make_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from workbench.core.errors import SpecError
from workbench.core.events import Noted
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge
from workbench.jobs.scoring import losses
from workbench.jobs.tasted import BASE, MERGED
from workbench.jobs.tasting import Tasting
from workbench.materials import tensors
from workbench.materials.models import load, resolve

WORDS = ["<unk>", "<end>", "a", "house", "stands", "by", "the", "sea", "and", "sings"]
SHUFFLED = ["sea", "<unk>", "sings", "the", "<end>", "house", "a", "and", "by", "stands"]
TEXT = "the house sings and a sea stands by"
EMBEDDINGS, HEAD, Q = "model.embed_tokens.weight", "lm_head.weight", "model.layers.{}.self_attn.q_proj.weight"


def tokenizer(words: list[str], added: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    whole = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.add_special_tokens([token for token in added if token.startswith("<")])
    whole.add_tokens([token for token in added if not token.startswith("<")])
    return PreTrainedTokenizerFast(tokenizer_object=whole, unk_token="<unk>", eos_token="<end>")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a model and its tokenizer: of `words` and `added` tokens, the embeddings padded to `rows`.

    Two models of one seed and move have the same numbers for the same word, whatever its row.
    """

    def build(name: str, words: list[str] = WORDS, added: tuple[str, ...] = (), move: float = 0.0, seed: int = 1, **more: object) -> str:
        own = tokenizer(words, added)
        rows = more.pop("rows", len(own))
        model = make_model(vocab_size=rows, eos_token_id=words.index("<end>"), pad_token_id=None, **more)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if parameter.shape[0] != rows:
                    parameter.copy_(dict(make_model(**more).named_parameters())[parameter_name] + move * torch.randn_like(parameter))
            for parameter in {model.model.embed_tokens.weight, model.lm_head.weight}:
                for word, row in own.get_vocab().items():
                    if row < rows:
                        near = torch.Generator().manual_seed(sum(word.encode()) + 1000 * seed)
                        far = torch.Generator().manual_seed(sum(word.encode()))
                        parameter[row] = torch.randn(32, generator=far) + move * torch.randn(32, generator=near)
        model.save_pretrained(tmp_path / name)
        own.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return build


@torch.no_grad()
def logits(folder: Path | str, text: str = TEXT) -> dict[str, Tensor]:
    """By token the logits of it after each word of the text, in the model's own tokens."""
    own = AutoTokenizer.from_pretrained(folder)
    found = AutoModelForCausalLM.from_pretrained(folder)(own(text, return_tensors="pt").input_ids).logits[0]
    return {token: found[:, row] for token, row in own.get_vocab().items()}


def close(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 1e-5) -> bool:
    shared = one.keys() & other.keys()
    return len(shared) >= len(WORDS) and all(torch.allclose(one[token], other[token], atol=atol) for token in shared)


@pytest.mark.parametrize("method", ["linear", {"method": "ties", "density": 0.5}, {"method": "slerp", "t": 0.3}], ids=str)
@pytest.mark.parametrize("choice", ["base", "union"])
def test_rows_go_by_their_tokens_and_not_by_their_numbers(choice: str, method: object, make: Callable, workspace: Workspace) -> None:
    base, a, b = make("base"), make("a", move=0.1), make("b", move=0.1, seed=2)
    shuffled = make("shuffled", SHUFFLED, move=0.1, seed=2)
    plain = run(workspace, spec_of(base, a, b, method=method, name="plain"))
    merged = run(workspace, spec_of(base, a, shuffled, method=method, tokenizer=choice))
    assert all(torch.equal(merged[name], plain[name]) for name in plain) and merged.keys() == plain.keys()
    assert close(logits(shuffled), logits(b)), "it is the same function"


def test_a_union_has_the_base_s_tokens_where_they_were_and_the_others_behind_them(make: Callable, workspace: Workspace) -> None:
    base, a = make("base"), make("a", added=("<x>", "harbour"), move=0.1)
    b = make("b", SHUFFLED, added=("<y>", "<x>"), move=0.1, seed=2)
    merged = run(workspace, spec_of(base, a, b, tokenizer="union"))
    folder = workspace.model("out")
    found = AutoTokenizer.from_pretrained(folder)
    assert [found.convert_ids_to_tokens(row) for row in range(len(found))] == [*WORDS, "<x>", "harbour", "<y>"]
    assert found.convert_tokens_to_ids(["<x>", "harbour", "<y>"]) == [10, 11, 12]
    assert found("the sea<y> harbour").input_ids == [6, 7, 12, 11] and found.eos_token == "<end>"
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == 13 == len(merged[EMBEDDINGS]) and config["eos_token_id"] == 1
    own = {"a": (read(a)[EMBEDDINGS], WORDS + ["<x>", "harbour"]), "b": (read(b)[EMBEDDINGS], SHUFFLED + ["<y>", "<x>"])}  # noqa: RUF005

    def row(model: str, token: str) -> Tensor:
        held, words = own[model]
        return held[words.index(token)]

    for place, token in enumerate(WORDS):
        assert torch.allclose(merged[EMBEDDINGS][place], (row("a", token) + row("b", token)) / 2, atol=1e-6)
    assert torch.allclose(merged[EMBEDDINGS][10], (row("a", "<x>") + row("b", "<x>")) / 2, atol=1e-6), "both have it"
    assert torch.allclose(merged[EMBEDDINGS][11], row("a", "harbour"), atol=1e-6), "its only owner's"
    assert torch.allclose(merged[EMBEDDINGS][12], row("b", "<y>"), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_on_text_of_common_tokens_a_union_is_the_plain_merge(tied: bool, make: Callable, workspace: Workspace) -> None:
    base, a = make("base", tie_word_embeddings=tied), make("a", move=0.1, tie_word_embeddings=tied)
    b = make("b", move=0.1, seed=2, tie_word_embeddings=tied)
    more = make("more", SHUFFLED, ("<x>", "<y>"), move=0.1, seed=2, tie_word_embeddings=tied)
    run(workspace, spec_of(base, a, b, name="plain"))
    merged = run(workspace, spec_of(base, a, more, tokenizer="union"))
    assert (HEAD in merged) is not tied and len(merged[EMBEDDINGS]) == 12
    assert close(logits(workspace.model("out")), logits(workspace.model("plain")))


def test_the_base_s_tokens_keep_its_padding_and_drop_the_others(make: Callable, workspace: Workspace) -> None:
    base, a = make("base", rows=16), make("a", SHUFFLED, ("<x>", "<y>"), move=0.1)
    for choice, tokens in [("base", WORDS), ("union", [*WORDS, "<x>", "<y>"])]:
        merged = run(workspace, spec_of(base, a, tokenizer=choice, name=choice))
        folder = workspace.model(choice)
        assert sorted(AutoTokenizer.from_pretrained(folder).get_vocab()) == sorted(tokens)
        assert len(merged[EMBEDDINGS]) == json.loads((folder / "config.json").read_text())["vocab_size"] == 16
        assert torch.equal(merged[EMBEDDINGS][len(tokens) :], read(base)[EMBEDDINGS][len(tokens) :]), "padding stays"
    assert (workspace.model("base") / "tokenizer.json").read_bytes() == (Path(base) / "tokenizer.json").read_bytes()
    assert torch.allclose(merged[EMBEDDINGS][10:12], read(a)[EMBEDDINGS][10:12], atol=1e-6), "new tokens take the first of the padding"


def test_the_tokens_can_be_those_of_one_of_the_models(make: Callable, workspace: Workspace) -> None:
    base, a, b = make("base"), make("a", move=0.1), make("b", SHUFFLED, ("<x>",), move=0.1, seed=2, rows=14)
    run(workspace, spec_of(base, a, b, tokenizer="union", name="union"))
    merged = run(workspace, spec_of(base, a, b, tokenizer=b))
    folder = workspace.model("out")
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == 14 == len(merged[EMBEDDINGS]) and config["eos_token_id"] == SHUFFLED.index("<end>")
    assert (folder / "tokenizer.json").read_bytes() == (Path(b) / "tokenizer.json").read_bytes()
    assert torch.allclose(merged[EMBEDDINGS][11:], read(b)[EMBEDDINGS][11:], atol=1e-6), "its padding"
    assert close(logits(folder), logits(workspace.model("union")))


def test_models_of_one_vocabulary_come_out_as_without(make: Callable, workspace: Workspace) -> None:
    base, a = make("base", rows=12), make("a", move=0.1, rows=12)
    for choice in ("same", "base", "union"):
        run(workspace, spec_of(base, a, base, tokenizer=choice, name=choice))
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert len({(workspace.model(choice) / name).read_bytes() for choice in ("same", "base", "union")}) == 1


def test_blocks_change_no_number(make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given = make("base"), make("a", SHUFFLED, ("<x>",), move=0.1), make("b", added=("<y>",), move=0.1, seed=2)
    whole = run(workspace, spec_of(*given, method="ties", tokenizer="union"))
    monkeypatch.setattr(tensors, "BLOCK", 96)
    monkeypatch.setattr("workbench.jobs.ingredients.READ", 200)
    small = run(workspace, spec_of(*given, method="ties", tokenizer="union", name="small"))
    assert all(torch.equal(small[name], whole[name]) for name in whole)


def test_a_stack_and_an_adapter_take_part(make: Callable, workspace: Workspace) -> None:
    base, more = make("base"), make("more", SHUFFLED, ("<x>",), move=0.1)
    torch.manual_seed(5)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(workspace.run("0007") / "adapter")
    (workspace.run("0007") / "spec.yaml").write_text(yaml.safe_dump({"model": base}))
    stack = [{"layers": [0, 2], "models": ["run:0007"]}, {"layers": [1, 3], "models": [more]}]
    merged = run(workspace, spec_of(base, "run:0007", more, method="passthrough", tokenizer="union", stack=stack))
    expected = adapted.merge_and_unload().state_dict()
    assert torch.equal(merged[EMBEDDINGS][:10], expected[EMBEDDINGS])
    assert torch.equal(merged[EMBEDDINGS][10], read(more)[EMBEDDINGS][10]), "its only owner's, though it takes no part here"
    assert torch.allclose(merged[Q.format(0)], expected[Q.format(0)], atol=1e-6) and torch.equal(
        merged[Q.format(3)], read(more)[Q.format(2)]
    )


def test_an_adapter_on_the_head_is_applied_once(make: Callable, workspace: Workspace) -> None:
    base, more = make("base", tie_word_embeddings=False), make("more", SHUFFLED, tie_word_embeddings=False)
    torch.manual_seed(5)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=3, target_modules=["lm_head"], init_lora_weights=False)
    )
    adapted.save_pretrained(workspace.run("0007") / "adapter")
    (workspace.run("0007") / "spec.yaml").write_text(yaml.safe_dump({"model": base}))
    merged = run(workspace, spec_of(more, "run:0007", tokenizer="base"))
    expected = adapted.merge_and_unload().state_dict()[HEAD][[WORDS.index(word) for word in SHUFFLED]]
    assert torch.allclose(merged[HEAD], expected, atol=1e-5)


def test_what_a_user_should_know_is_said(make: Callable, workspace: Workspace) -> None:
    base, a = make("base", added=("<lost>",), rows=10), make("a", [*WORDS, "ous"], move=0.1)
    notes = [event.text for event in merge(spec_of(base, a, tokenizer="union"), workspace.run("1"), workspace) if isinstance(event, Noted)]
    assert notes == [
        "1 of the 1 new tokens are pieces of another model's words. They have their rows, but the base's tokenizer cuts text "
        "up in its own way, and gives such a piece only where it stands alone as a word.",
        "No model has a row for 1 of the tokens ('<lost>'). They get the mean of the base's rows.",
    ]
    assert AutoTokenizer.from_pretrained(workspace.model("out"))("the house ous").input_ids == [6, 3, 11], "it cuts up no other word"
    merged = read(workspace.model("out"))
    assert torch.allclose(merged[EMBEDDINGS][10], read(base)[EMBEDDINGS].mean(0), atol=1e-6) and len(merged[EMBEDDINGS]) == 12


def test_a_merge_that_is_stopped_leaves_nothing(make: Callable, workspace: Workspace) -> None:
    job = merge(spec_of(make("base"), make("a", added=("<x>",)), tokenizer="union"), workspace.run("0001"), workspace)
    for _ in range(5):
        next(job)
    job.close()
    assert list(workspace.model().iterdir()) == []


def test_the_recipes_read_back(make: Callable, workspace: Workspace) -> None:
    base, a = make("base"), make("a", added=("<x>",), move=0.1)
    for choice, told in [("union", "union"), ("base", "base"), (a, a)]:
        spec = spec_of(base, a, method="task_arithmetic", tokenizer=choice, name=f"m{len(choice)}")
        run(workspace, spec)
        assert parse_spec(yaml.safe_load((workspace.model(spec.name) / "merge.yaml").read_text())) == spec
        kit = yaml.safe_load((workspace.model(spec.name) / "mergekit_config.yml").read_text())
        assert kit["tokenizer_source"] == told and parse_spec(kit).tokenizer == choice
    run(workspace, spec_of(base, base, a, tokenizer="base", name="linear"))
    kit = yaml.safe_load((workspace.model("linear") / "mergekit_config.yml").read_text())
    assert kit["tokenizer_source"] == base and "base_model" not in kit, "a file without a base names the model"
    run(workspace, spec_of(base, a, tokenizer="union", name="other"))
    assert not (workspace.model("other") / "mergekit_config.yml").exists(), "mergekit would begin with the tokens of a"


# Refusals.


def test_tokenizers_that_cannot_be_read_are_refused(make: Callable, workspace: Workspace) -> None:
    base, a, b = make("base"), make("a", added=("<x>",)), make("b", added=("<y>",))
    (Path(a) / "tokenizer.json").rename(Path(a) / "tokenizer.model")
    (Path(b) / "tokenizer.json").write_text("{}")
    for broken, sentence in [(a, "tokenizer: a has no tokenizer.json in "), (b, "cannot be read as a tokenizer")]:
        with pytest.raises(SpecError) as caught:
            run(workspace, spec_of(base, broken, tokenizer="union"))
        (found,) = caught.value.mistakes
        assert sentence in found and not list(workspace.model().iterdir())


def test_untold_the_vocabularies_must_be_the_same_and_the_remedy_is_named(make: Callable, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match=r"The vocabularies differ: .* Set `tokenizer` to union \(all tokens\) or base"):
        run(workspace, spec_of(make("base"), make("a", added=("<x>",))))


def test_a_tokenizer_is_one_of_the_models_and_not_of_an_adapter() -> None:
    with pytest.raises(SpecError, match=r"tokenizer is '\./c'; it must be one of same, base, union, \./base, \./a"):
        spec_of("./base", "./a", tokenizer="./c")
    with pytest.raises(SpecError, match="an adapter has the layers and the tokens of its base"):
        spec_of("./base", "./a", tokenizer="union", save="adapter")


def test_a_preview_asks_all_models_with_the_tokens_of_the_result(make: Callable, workspace: Workspace, tmp_path: Path) -> None:
    """What it finds is what the model would do that is written, whosever tokens that has."""
    base, a, padded = make("base"), make("a", SHUFFLED, added=("<x>",), move=0.1), make("padded", rows=16)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in (TEXT, "the <x> sings", "a house by the sea", "<x> and <x>") * 3))
    for place, (given, choice) in enumerate([(base, "union"), (base, a), (padded, "union"), (base, "base")]):
        spec = spec_of(given, a, method="task_arithmetic", tokenizer=choice, name=f"out{place}")
        here = Tasting(spec, [str(rows)], workspace)
        found = list(here.taste(spec))[-1]
        run(workspace, spec)
        folder = workspace.model(spec.name)
        assert found.tasks and here.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(folder).get_vocab()
        written = load(resolve(str(folder), workspace), torch.device("cpu"), torch.float32)
        assert [score.loss for score in found.scores[MERGED]] == pytest.approx(losses(written, here.tasks), rel=1e-5)
        own = load(resolve(given, workspace), torch.device("cpu"), torch.float32)
        if choice == "base":
            assert [score.loss for score in found.scores[BASE]] == pytest.approx(losses(own, here.tasks), rel=1e-5)
