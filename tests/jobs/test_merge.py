"""Merging as a job, on pico models: the laws of every method, the files that come out, and every sentence that refuses."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from merged import read, reconfigure, refused, rewrite, run, same, spec_of
from peft import LoraConfig, PeftModel, get_peft_model
from pico import make_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from workbench.core.events import Made, Noted, Progress, Started, Table
from workbench.core.method import find, shelf
from workbench.core.spec import read_spec
from workbench.core.workspace import Workspace
from workbench.jobs import layers
from workbench.jobs.merge import merge, preview
from workbench.materials import family, tensors

ROADS: list[dict] = [
    {"method": "linear"},
    {"method": "lines"},
    {"method": "model_stock", "filter_wise": True},
    {"method": "ties"},
    {"method": "ties", "trim": "model"},
    {"method": "ties", "density": [0.2, 0.8]},
]
"""One merge for each road that a tensor can take through the job; what holds of every method is held in `test_every_method.py` too."""
TAKEN = {road["method"] for road in ROADS}
METHODS: list[dict] = [
    *({"method": name} for name, kind in shelf("merges").items() if not (kind.whole or kind.factored) and name not in TAKEN),
    *ROADS,
]


def named(method: dict) -> str:
    return "-".join(map(str, method.values()))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Pico tensors gain nothing from threads, and lose much to them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def few(method: dict, *models: str) -> tuple[str, ...]:
    """As many of the models as the method takes."""
    return models[: find("merges", method["method"]).most]


# The laws of every method.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_copies_of_the_base_give_the_base_byte_for_byte(method: dict, dtype: torch.dtype, make: Callable, workspace: Workspace) -> None:
    base = make("base", dtype=dtype)
    merged = run(workspace, spec_of(base, *few(method, base, base, base), method=method))
    assert same(merged, read(base))
    assert (workspace.model("out") / "model.safetensors").read_bytes()[-4096:] == (Path(base) / "model.safetensors").read_bytes()[-4096:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "method", [{"method": "linear"}, {"method": "linear", "normalise": False}, {"method": "lines", "alpha": 1, "beta": 0}]
)
def test_one_model_with_neutral_knobs_is_that_model(method: dict, dtype: torch.dtype, make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base", dtype=dtype), make("a", 0.01, dtype=dtype)
    assert same(run(workspace, spec_of(base, tuned, method=method)), read(tuned))


@pytest.mark.parametrize("method", [method for method in METHODS if not find("merges", method["method"]).ordered], ids=named)
def test_the_order_of_the_models_does_not_matter(method: dict, make: Callable, workspace: Workspace) -> None:
    base, *models = make("base"), make("a", 0.1, 1), make("b", 0.1, 2), make("c", 0.1, 3)
    models = few(method, *models)
    one = run(workspace, spec_of(base, *models, method=method))
    other = run(workspace, spec_of(base, *models[::-1], method=method, name="other"))
    assert all(torch.allclose(one[name], other[name], rtol=2**-22, atol=1e-8) for name in one)
    assert not same(one, read(base))


@pytest.mark.parametrize("method", [{"method": "linear", "normalise": False}, {"method": "lines"}], ids=named)
def test_a_model_that_never_moved_adds_nothing(method: dict, make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base"), make("a", 0.1)
    assert same(run(workspace, spec_of(base, tuned, base, method=method)), run(workspace, spec_of(base, tuned, method=method, name="one")))


@pytest.mark.parametrize("method", ROADS, ids=named)
def test_blocks_shards_and_threads_change_no_byte(
    method: dict, make: Callable, workspace: Workspace, adapted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, models = make("base"), few(method, make("a", 0.1), adapted)
    whole = run(workspace, spec_of(base, *models, method=method))
    content = (workspace.model("out") / "model.safetensors").read_bytes()
    for block, count in [(400, 1), (5000, 2)]:
        monkeypatch.setattr(tensors, "BLOCK", block)
        torch.set_num_threads(count)
        run(workspace, spec_of(base, *models, method=method, name=f"block{block}"))
        assert (workspace.model(f"block{block}") / "model.safetensors").read_bytes() == content
    monkeypatch.setattr(tensors, "SHARD", 20_000)
    assert same(run(workspace, spec_of(base, *models, method=method, name="sharded")), whole)
    assert len(list(workspace.model("sharded").glob("model-*-of-*.safetensors"))) > 3
    assert AutoModelForCausalLM.from_pretrained(workspace.model("sharded")).num_parameters() == make_model().num_parameters()


@pytest.mark.parametrize("method", ROADS, ids=named)
@torch.no_grad()
def test_the_result_loads_and_speaks(method: dict, make: Callable, workspace: Workspace) -> None:
    run(workspace, spec_of(make("base", dtype=torch.bfloat16), *few(method, make("a", 0.1), make("b", 0.1, 2)), method=method))
    model = AutoModelForCausalLM.from_pretrained(workspace.model("out"))
    assert model.dtype == torch.bfloat16
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()


def test_tensors_outside_the_blocks_keep_their_rule(make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base", tie_word_embeddings=False), make("a", 0.1, tie_word_embeddings=False)
    merged, before, after = run(workspace, spec_of(base, tuned, method={"method": "lines"})), read(base), read(tuned)
    for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
        assert torch.allclose(merged[name], before[name] + 0.2 * (after[name] - before[name]), atol=1e-7)
    last = "model.layers.2.mlp.up_proj.weight"
    assert torch.allclose(merged[last], after[last], atol=1e-7)


def test_a_model_of_one_block_gets_the_last_scale(make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base", num_hidden_layers=1), make("a", 0.1, num_hidden_layers=1)
    merged = run(workspace, spec_of(base, tuned, method={"method": "lines", "alpha": 0, "beta": 1}))
    blocks = [name for name in merged if ".layers." in name]
    assert len(blocks) == 9 and all(torch.allclose(merged[name], read(tuned)[name], atol=1e-7) for name in blocks)


# Adapters.


@pytest.fixture
def adapted(make: Callable, workspace: Workspace) -> str:
    """`run:0007`, a run that made a LoRA adapter on the base."""
    torch.manual_seed(5)
    peft = get_peft_model(make_model(), LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    folder = workspace.run("0007")
    peft.save_pretrained(folder / "adapter")
    (folder / "spec.yaml").write_text(yaml.safe_dump({"model": make("base")}))
    return "run:0007"


def test_an_adapter_is_merged_as_peft_would(adapted: str, make: Callable, workspace: Workspace) -> None:
    base = make("base")
    merged = run(workspace, spec_of(base, adapted))
    expected = PeftModel.from_pretrained(make_model(), workspace.run("0007") / "adapter").merge_and_unload().state_dict()
    assert all(torch.allclose(merged[name], expected[name], rtol=0, atol=1e-6) for name in merged)
    assert not same(merged, read(base))
    half = run(workspace, spec_of(base, adapted, base, name="half"))
    assert all(torch.allclose(half[name], (expected[name] + read(base)[name]) / 2, atol=1e-6) for name in half)


# Tied embeddings.


@pytest.mark.parametrize("ties", [(True, True), (True, False), (False, True), (False, False)])
@torch.no_grad()
def test_tied_and_untied_embeddings(ties: tuple[bool, bool], make: Callable, workspace: Workspace) -> None:
    base, tuned = (make(name, move, tie_word_embeddings=tie) for name, move, tie in zip("ab", (0.0, 0.1), ties, strict=True))
    merged = run(workspace, spec_of(base, base, tuned))
    config = json.loads((workspace.model("out") / "config.json").read_text())
    assert config["tie_word_embeddings"] is all(ties) and ("lm_head.weight" in merged) is not all(ties)
    loaded = AutoModelForCausalLM.from_pretrained(workspace.model("out")).state_dict()
    heads = [AutoModelForCausalLM.from_pretrained(folder).state_dict()["lm_head.weight"] for folder in (base, tuned)]
    assert torch.allclose(loaded["lm_head.weight"], (heads[0] + heads[1]) / 2, atol=1e-7)


def test_a_head_in_the_file_outweighs_a_flag_that_says_tied(make: Callable, workspace: Workspace) -> None:
    base = reconfigure(make("base", tie_word_embeddings=False), tie_word_embeddings=True)
    merged = run(workspace, spec_of(base, make("a", 0.1, tie_word_embeddings=False)))
    assert "lm_head.weight" in merged
    assert json.loads((workspace.model("out") / "config.json").read_text())["tie_word_embeddings"] is False


# What comes out.


def test_what_the_job_says(make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base"), make("a", 0.1)
    events = list(merge(spec_of(base, tuned, tuned, method="model_stock"), workspace.run("0001"), workspace))
    started, made, table = events[0], events[-1], events[-2]
    assert isinstance(started, Started) and started.about["models"] == ["a", "a"] and started.about["method"] == "Model Stock"
    assert made == Made("model", str(workspace.model("out"))) and isinstance(table, Table)
    assert (table.name, table.columns[:4]) == ("layers", ["tensor", "layer", "depth", "module"])
    assert table.columns[4:] == ["angle", "ratio", "norm", "relative"] and len(table.rows) == len(read(base))
    rows = {row[0]: row for row in table.rows}
    assert rows["model.layers.1.mlp.up_proj.weight"][1:4] == [1, 0.5, "up_proj"]
    assert rows["model.embed_tokens.weight"][1:4] == [None, None, "embed_tokens"]
    assert rows["model.embed_tokens.weight"][4:6] == pytest.approx([0, 1], abs=1e-3)
    progress = [event.done for event in events if isinstance(event, Progress)]
    assert progress == sorted(progress) and progress[-1] == started.total == sum(t.numel() * 4 for t in read(base).values())
    json.dumps(table.rows)


def test_the_folder_holds_the_recipe_the_card_and_the_tokenizer(
    make: Callable, workspace: Workspace, pico_tokenizer: PreTrainedTokenizerFast
) -> None:
    base, tuned = make("base"), make("a", 0.1)
    pico_tokenizer.save_pretrained(base)
    spec = spec_of(base, tuned, method={"method": "lines", "alpha": 0.5})
    run(workspace, spec)
    folder = workspace.model("out")
    assert read_spec(folder / "merge.yaml") == spec
    card = (folder / "README.md").read_text()
    assert "[LiNeS](https://arxiv.org/abs/2410.17146)" in card and "| a | 1 |" in card and "alpha = 0.5" in card
    assert AutoTokenizer.from_pretrained(folder).chat_template == pico_tokenizer.chat_template
    assert (folder / "generation_config.json").read_bytes() == (Path(base) / "generation_config.json").read_bytes()
    assert json.loads((folder / "config.json").read_text()) == json.loads((Path(base) / "config.json").read_text())
    assert [path.name for path in workspace.model().iterdir()] == ["out"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_number_format_can_be_chosen(dtype: str, make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base"), make("a", 0.1)
    merged = run(workspace, spec_of(base, base, tuned, dtype=dtype))
    before, after = read(base), read(tuned)
    for name, tensor in merged.items():
        assert torch.equal(tensor, ((before[name].double() + after[name].double()) / 2).float().to(getattr(torch, dtype)))
    assert AutoModelForCausalLM.from_pretrained(workspace.model("out")).dtype == getattr(torch, dtype)


def test_tables_that_are_not_learnt_are_copied_from_the_base(make: Callable, workspace: Workspace) -> None:
    def add(value: float, position: int) -> Callable:
        return lambda held: held.update({
            "model.layers.0.self_attn.rotary_emb.inv_freq": torch.full((4,), value), "model.positions": torch.tensor([position, 2]),
        })  # fmt: skip

    base, tuned = rewrite(make("base"), add(1.0, 1)), rewrite(make("a", 0.1), add(9.0, 1))
    merged = run(workspace, spec_of(base, base, tuned))
    assert merged["model.layers.0.self_attn.rotary_emb.inv_freq"].tolist() == [1.0] * 4 and merged["model.positions"].tolist() == [1, 2]
    assert list(merged) == list(read(base))
    assert same(run(workspace, spec_of(base, make("b", 0.1), name="older")), {**read(base), **read(make("b", 0.1))}), "they may be absent"
    workspace = Workspace(workspace.home / "other")
    assert refused(workspace, spec_of(base, rewrite(tuned, add(9.0, 7)))) == [
        "The table model.positions is not the same in a and the base base. Merge only models tuned from one base."
    ]


@pytest.mark.parametrize("method", ROADS, ids=named)
@pytest.mark.parametrize("block", [1 << 20, 1500])
def test_a_preview_is_the_table_and_writes_nothing(
    block: int, method: dict, make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "BLOCK", block)
    spec = spec_of(make("base"), *few(method, make("a", 0.1), make("b", 0.1, 2)), method=method)
    seen = preview(spec, workspace)
    assert list(workspace.model().iterdir()) == []
    tables = [event for event in merge(spec, workspace.run("0001"), workspace) if isinstance(event, Table)]
    assert tables == [seen]
    assert preview(spec, workspace) == seen, "a name that is taken does not matter to a preview"


def test_the_numbers_do_not_depend_on_the_blocks(make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in METHODS:
        spec = spec_of(make("base"), *few(method, make("a", 0.1), make("b", 0.1, 2)), method=method)
        monkeypatch.setattr(tensors, "BLOCK", 1 << 20)
        whole = preview(spec, workspace)
        monkeypatch.setattr(tensors, "BLOCK", 900)
        for one, other in zip(whole.rows, preview(spec, workspace).rows, strict=True):
            assert one[:4] == other[:4] and one[4:] == pytest.approx(other[4:], rel=1e-5)


@pytest.mark.parametrize(("method", "asked"), [("linear", 1), ("ties", 6)])
def test_of_a_large_tensor_some_blocks_explain_the_merge_and_one_where_all_follows_from_the_whole(
    method: str, asked: int, make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embeddings, 400 × 32, come in 67 blocks of 6 rows; where a thousand numbers are told of, that is each twelfth of them."""
    kind, told = find("merges", method), list[str]()
    explain = kind.explain
    monkeypatch.setattr(kind, "explain", lambda self, slot, *given: (told.append(slot.name), explain(self, slot, *given))[1])
    monkeypatch.setattr(layers, "TOLD", 1000)
    monkeypatch.setattr(tensors, "BLOCK", 200)
    preview(spec_of(make("base"), make("a", 0.1), method=method), workspace)
    assert told.count("model.embed_tokens.weight") == asked and told.count("model.norm.weight") == 1


@pytest.mark.parametrize(("method", "times"), [("linear", 1), ("lines", 1), ("model_stock", 2), ("slerp", 2)])
def test_weights_are_read_once_where_the_merge_only_adds_up(
    method: str, times: int, make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice where it goes by their angles."""
    spec = spec_of(make("base"), *few({"method": method}, make("a", 0.1), make("b", 0.1, 2)), method=method)
    counts, read_raw = Counter[Path](), tensors.read_raw

    def counted(entry: tensors.Entry, start: int, stop: int, room: torch.Tensor | None = None) -> torch.Tensor:
        rows = read_raw(entry, start, stop, room)
        counts[entry.file] += rows.numel()
        return rows

    monkeypatch.setattr(family, "read_raw", counted)
    whole = sum(tensor.numel() for tensor in run(workspace, spec).values())
    assert set(counts.values()) == {times * whole} and len(counts) == 1 + len(spec.models)


def test_a_model_that_is_the_base_is_pointed_out(make: Callable, workspace: Workspace) -> None:
    base, tuned = make("base"), make("a", 0.1)
    events = list(merge(spec_of(base, tuned, base), workspace.run("0001"), workspace))
    notes = [event for event in events if isinstance(event, Noted)]
    assert notes == [Noted("base does not differ from the base base, so it adds nothing to the merge.", "watch")]


# Merges of whole models.


@torch.no_grad()
def test_a_fusion_is_a_wider_model_that_loads_and_speaks(make: Callable, workspace: Workspace) -> None:
    base = make("base")
    spec = spec_of(base, make("a", 0.1), make("b", 0.1, 2), method={"method": "partial_fusion", "apart": 0.5}, dtype="bfloat16")
    events = list(merge(spec, workspace.run("0001"), workspace))
    model = AutoModelForCausalLM.from_pretrained(workspace.model("out"))
    assert model.config.intermediate_size == 96 and model.dtype == torch.bfloat16
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()
    (note,) = [event.text for event in events if isinstance(event, Noted)]
    (table,) = [event for event in events if isinstance(event, Table)]
    assert [row[:4] for row in table.rows] == [[f"model.layers.{layer}", layer, layer / 2, "block"] for layer in range(3)]
    assert table.columns[4] == "neurons near" and all(0 < row[4] < 2 for row in table.rows) and json.dumps(table.rows)
    before, after = (AutoModelForCausalLM.from_pretrained(folder).num_parameters() for folder in (base, workspace.model("out")))
    assert f"{after / before:.3g} times the base's parameters" in note
    assert read_spec(workspace.model("out") / "merge.yaml") == spec and preview(spec, workspace).rows == []


def test_a_fusion_that_is_stopped_leaves_nothing(make: Callable, workspace: Workspace) -> None:
    spec = spec_of(make("base"), make("a", 0.1), method={"method": "pruning", "keep": 0.5})
    job = merge(spec, workspace.run("0001"), workspace)
    while not (isinstance(event := next(job), Progress) and event.done > 1000):
        pass
    job.close()
    assert list(workspace.model().iterdir()) == []


@pytest.mark.parametrize("stopped", [False, True])
def test_it_takes_one_core_and_gives_the_others_back(stopped: bool, make: Callable, workspace: Workspace) -> None:
    torch.set_num_threads(2)
    job = merge(spec_of(make("base"), make("a", 0.1)), workspace.run("0001"), workspace)
    next(job)
    assert torch.get_num_threads() == 1
    job.close() if stopped else list(job)
    assert torch.get_num_threads() == 2
