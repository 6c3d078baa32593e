"""Stacked layers as a job: whose layer each is, what the config says then, and every sentence that refuses."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from merged import read, refused, run, same
from merged import spec_of as any_spec
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from workbench.core.errors import SpecError, WorkbenchError
from workbench.core.events import Noted, Table
from workbench.core.spec import MergeSpec, parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge, preview
from workbench.materials import tensors

IDS = torch.tensor([[5, 6, 7, 8]])
TWICE = [{"layers": [0, 3]}, {"layers": [1, 4]}]


@pytest.fixture
def make(make: Callable[..., str]) -> Callable[..., str]:
    """As `make`, with 4 layers."""
    return partial(make, num_hidden_layers=4)


spec_of = partial(any_spec, method="passthrough")


def layer(held: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    start = f"model.layers.{number}."
    return {name.removeprefix(start): tensor for name, tensor in held.items() if name.startswith(start)}


@torch.no_grad()
def logits(folder: Path | str) -> Tensor:
    return AutoModelForCausalLM.from_pretrained(folder)(IDS).logits


@pytest.mark.parametrize("method", ["linear", "ties", {"method": "dare", "seed": 3}, {"method": "task_arithmetic", "deeper": 0.5}], ids=str)
def test_one_slice_of_all_layers_is_the_plain_merge_byte_for_byte(method: object, make: Callable, workspace: Workspace) -> None:
    given = make("base"), make("a", 0.1), make("b", 0.1, 2)
    run(workspace, spec_of(*given, method=method, name="plain"))
    run(workspace, spec_of(*given, method=method, name="stack", stack=[{"layers": [0, 4]}]))
    for name in ("model.safetensors", "config.json"):
        assert (workspace.model("stack") / name).read_bytes() == (workspace.model("plain") / name).read_bytes()


def test_every_layer_is_the_source_s_and_the_ends_are_those_of_the_first_and_last_slice(make: Callable, workspace: Workspace) -> None:
    a, b = make("a", 0.1, tie_word_embeddings=False), make("b", 0.1, 2, tie_word_embeddings=False)
    merged = run(workspace, spec_of(a, a, b, stack=[{"layers": [0, 3], "models": [a]}, {"layers": [1, 4], "models": [b]}]))
    for place, (source, number) in enumerate([(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3)]):
        assert same(layer(merged, place), layer(read(source), number))
    assert torch.equal(merged["model.embed_tokens.weight"], read(a)["model.embed_tokens.weight"])
    for name in ("model.norm.weight", "lm_head.weight"):
        assert torch.equal(merged[name], read(b)[name])
    model = AutoModelForCausalLM.from_pretrained(workspace.model("out"))
    assert model.config.num_hidden_layers == 6 and len(merged) == 3 + 6 * 9
    assert torch.isfinite(logits(workspace.model("out"))).all()


def test_a_stack_of_a_model_on_itself_in_its_own_order_is_the_model(make: Callable, workspace: Workspace) -> None:
    a = make("a", 0.1)
    run(workspace, spec_of(make("base"), a, stack=[{"layers": [0, 1]}, {"layers": [1, 4]}]))
    assert torch.equal(logits(workspace.model("out")), logits(a))


def test_layers_that_are_there_twice_and_add_nothing_leave_the_base(make: Callable, workspace: Workspace) -> None:
    base = make("base", 0.1)
    zero = [{"filter": f"layers.{place}.{module}", "value": 0} for place in (2, 3) for module in ("self_attn.o_proj", "mlp.down_proj")]
    method = {"method": "passthrough", "scale": [*zero, {"value": 1}]}
    stack = [{"layers": [0, 2]}, {"layers": [0, 2]}, {"layers": [2, 4]}]
    merged = run(workspace, spec_of(base, base, method=method, stack=stack))
    assert torch.equal(logits(workspace.model("out")), logits(base))
    assert same(layer(merged, 2), {**layer(read(base), 0), **{n: t for n, t in layer(merged, 2).items() if "o_proj" in n or "down" in n}})
    assert merged["model.layers.3.mlp.down_proj.weight"].abs().max() == 0 < merged["model.layers.4.mlp.down_proj.weight"].abs().max()


def test_each_slice_is_merged_of_its_own_models_with_weights_by_the_depth_of_the_result(make: Callable, workspace: Workspace) -> None:
    base, a, b = make("base"), make("a", 0.1), make("b", 0.1, 2)
    stack = [{"layers": [2, 4], "models": [b]}, {"layers": [0, 2]}, {"layers": [3, 4], "models": [base]}]
    given = [{"model": a, "weight": [0, 0.25, 0.5, 0.75, 1]}, {"model": b, "weight": 0.5}]
    merged = run(workspace, MergeSpec.parse({"name": "out", "base": base, "models": given, "merge": "task_arithmetic", "stack": stack}))
    own = {name: read(folder) for name, folder in {"base": base, "a": a, "b": b}.items()}
    for place, number, weight_a, weight_b in [(0, 2, 0, 0.5), (1, 3, 0, 0.5), (2, 0, 0.5, 0.5), (3, 1, 0.75, 0.5), (4, 3, 0, 0)]:
        for name, tensor in layer(merged, place).items():
            before, one, two = (layer(own[model], number)[name] for model in ("base", "a", "b"))
            assert torch.allclose(tensor, before + weight_a * (one - before) + weight_b * (two - before), atol=1e-6), (place, name)
    before, one, two = (held["model.norm.weight"] for held in own.values())
    assert torch.allclose(merged["model.norm.weight"], before + 1.0 * (one - before) + 0.5 * (two - before), atol=1e-6), "of all models"


def test_a_base_among_the_models_of_a_slice_weighs_one(make: Callable, workspace: Workspace) -> None:
    base, a = make("base"), make("a", 0.1)
    given = [{"model": a, "weight": 3}]
    stack = [{"layers": [0, 4], "models": [a, base]}]
    merged = run(workspace, MergeSpec.parse({"name": "out", "base": base, "models": given, "merge": "linear", "stack": stack}))
    for name, tensor in layer(merged, 2).items():
        assert torch.allclose(tensor, (3 * layer(read(a), 2)[name] + layer(read(base), 2)[name]) / 4, atol=1e-6)


def test_numbers_that_are_not_finite_are_told_with_the_model_that_has_them(make: Callable, workspace: Workspace) -> None:
    base, a, b = make("base"), make("a", 0.1), make("b", 0.1, 2)
    held = read(b)
    held["model.layers.3.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(held, Path(b) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkbenchError, match=r"^b holds NaN or Inf in model\.layers\.1\.mlp\.up_proj\.weight"):
        run(workspace, spec_of(base, a, b, stack=[{"layers": [0, 1], "models": [a]}, {"layers": [3, 4], "models": [b]}]))


def test_the_order_within_a_slice_is_the_order_that_the_method_sees(make: Callable, workspace: Workspace) -> None:
    a, b = make("a", 0.1), make("b", 0.1, 2)
    stack = [{"layers": [0, 2], "models": [a, b]}, {"layers": [2, 4], "models": [b, a]}]
    merged = run(workspace, spec_of(a, a, b, method={"method": "slerp", "t": 1.0}, stack=stack))
    assert same(layer(merged, 0), layer(read(b), 0)) and same(layer(merged, 3), layer(read(a), 3))


def test_an_adapter_goes_with_its_layers(make: Callable, workspace: Workspace) -> None:
    base = make("base")
    torch.manual_seed(5)
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=3, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(workspace.run("0007") / "adapter")
    (workspace.run("0007") / "spec.yaml").write_text(yaml.safe_dump({"model": base}))
    merged = run(workspace, spec_of(base, "run:0007", stack=TWICE))
    expected = adapted.merge_and_unload().state_dict()
    for place, source in enumerate([0, 1, 2, 1, 2, 3]):
        for name, tensor in layer(merged, place).items():
            assert torch.allclose(tensor, layer(expected, source)[name], rtol=0, atol=1e-6)


def test_blocks_and_shards_change_no_number(make: Callable, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given, stack = (make("base"), make("a", 0.1), make("b", 0.1, 2)), [{"layers": [0, 3]}, {"layers": [1, 4]}]
    whole = run(workspace, spec_of(*given, method="ties", stack=stack))
    monkeypatch.setattr(tensors, "BLOCK", 400)
    monkeypatch.setattr(tensors, "SHARD", 20_000)
    assert same(run(workspace, spec_of(*given, method="ties", stack=stack, name="small")), whole)


def test_a_config_with_a_kind_for_each_layer_follows(tmp_path: Path, workspace: Workspace) -> None:
    config = Qwen3Config(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, use_sliding_window=True, sliding_window=2, max_window_layers=2,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(tmp_path / "base")
    expected = ["full_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
    for name, forgotten in [("new", ()), ("old", ("layer_types",))]:
        path = tmp_path / "base" / "config.json"
        path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in forgotten}))
        run(workspace, spec_of(str(tmp_path / "base"), str(tmp_path / "base"), stack=TWICE, name=name))
        written = AutoModelForCausalLM.from_pretrained(workspace.model(name)).config
        assert written.layer_types == expected and (written.num_hidden_layers, written.max_window_layers) == (6, 2)


def test_the_folder_says_what_was_stacked_and_the_recipes_read_back(make: Callable, workspace: Workspace) -> None:
    a, b = make("a", 0.1), make("b", 0.1, 2)
    spec = spec_of(a, a, b, stack=[{"layers": [0, 3], "models": [a]}, {"layers": [1, 4], "models": [b]}])
    run(workspace, spec)
    folder = workspace.model("out")
    assert "| 0 to 2 | a |\n| 1 to 3 | b |" in (folder / "README.md").read_text()
    assert parse_spec(yaml.safe_load((folder / "merge.yaml").read_text())) == spec
    assert parse_spec(yaml.safe_load((folder / "mergekit_config.yml").read_text())).stack == spec.stack
    mixed = spec_of(a, a, b, method="linear", stack=[{"layers": [0, 4], "models": [a]}, {"layers": [0, 4]}], name="mixed")
    run(workspace, mixed)
    assert not (workspace.model("mixed") / "mergekit_config.yml").exists(), "mergekit takes the embeddings of the first slice alone"


def test_a_preview_has_the_numbers_of_every_layer_and_no_word_about_models_that_did_not_move(make: Callable, workspace: Workspace) -> None:
    spec = spec_of(
        make("base"), make("base"), make("a", 0.1), method="linear", stack=[{"layers": [0, 4]}, {"layers": [0, 4], "models": []}]
    )
    events = list(merge(spec, workspace.run("0001"), workspace))
    (table,) = [event for event in events if isinstance(event, Table)]
    assert table == preview(spec, workspace) and len(table.rows) == 2 + 8 * 9 and {row[1] for row in table.rows} == {None, *range(8)}
    assert not [event for event in events if isinstance(event, Noted)]


def test_slices_of_one_and_of_two_models_share_a_table(make: Callable, workspace: Workspace) -> None:
    base, a = make("base"), make("a", 0.1)
    table = preview(
        spec_of(base, a, make("b", 0.1, 2), method="linear", stack=[{"layers": [0, 4]}, {"layers": [0, 4], "models": [a]}]), workspace
    )
    assert table.columns[4:] == ["norm", "relative"], "one model has no cosine"


@pytest.mark.parametrize("after", [1, 5, 40])
def test_a_stack_that_is_stopped_leaves_nothing(after: int, make: Callable, workspace: Workspace) -> None:
    job = merge(spec_of(make("base"), make("a", 0.1), stack=TWICE), workspace.run("0001"), workspace)
    for _ in range(after):
        next(job)
    job.close()
    assert list(workspace.model().iterdir()) == []


# Refusals.


def test_all_that_is_wrong_with_the_slices_is_said_at_once(make: Callable) -> None:
    stack = [{"layers": [2, 2]}, {"layers": [3, 1]}, {"layers": [-1, 2]}, {"layers": [0, 1], "models": ["./c", "./a", "./a"]}]
    with pytest.raises(SpecError) as caught:
        spec_of("./base", "./a", "./b", stack=stack)
    assert caught.value.mistakes == [
        "stack.0: layers [2, 2] hold no layer; write the first layer and the one after the last, for example [0, 4]",
        "stack.1: layers [3, 1] run backwards; write the first layer and the one after the last, for example [0, 4]",
        "stack.2: layers [-1, 2] begin below 0, which is the first layer",
        "stack.3: './c' is not one of the models; there are: ./a, ./b, ./base",
        "stack.3: './a' is named 2 times; name it once",
    ]


def test_layers_that_are_not_there_and_models_too_many_are_said_at_once(make: Callable, workspace: Workspace) -> None:
    base, a = make("base"), make("a", 0.1)
    stack = [{"layers": [0, 4], "models": [a]}, {"layers": [2, 9]}, {"layers": [4, 5], "models": [a]}]
    found = refused(workspace, spec_of(base, a, base, stack=stack))
    copies, second, third = found
    assert copies.startswith("stack.1: Passthrough copies one model in each place, and here are 2.")
    assert second == "stack.1: layers [2, 9] go beyond the 4 layers of the base base. End it at 4 at the latest."
    assert third.startswith("stack.2: layers [4, 5] go beyond")


@pytest.mark.parametrize(
    ("method", "more", "sentence"),
    [
        ("passthrough", {}, "Passthrough copies one model in each place, and here are 2. Name one model in each slice of `stack`"),
        ("pruning", {"stack": [{"layers": [0, 4]}]}, "makes one model of whole ones, so no layers can be stacked"),
        ({"method": "ties", "trim": "model"}, {"stack": [{"layers": [0, 4]}, {"layers": [0, 1], "models": ["A"]}]}, "need the same models"),
        ("model_stock", {"stack": [{"layers": [0, 4]}, {"layers": [0, 1], "models": ["A"]}]}, "stack.1: Model Stock needs at least 2"),
    ],
    ids=str,
)
def test_a_method_says_what_it_cannot_stack(method: object, more: dict, sentence: str, make: Callable, workspace: Workspace) -> None:
    a, b = make("a", 0.1), make("b", 0.1, 2)
    stack = [{**given, "models": [a] if given.get("models") else []} for given in more.get("stack", [])]
    assert any(sentence in found for found in refused(workspace, spec_of(make("base"), a, b, method=method, stack=stack)))


def test_layers_that_a_family_tells_apart_by_number_stay_where_they_may(tmp_path: Path, workspace: Workspace) -> None:
    config = Qwen3MoeConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, moe_intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, num_experts=2, num_experts_per_tok=1, decoder_sparse_step=2,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "moe")
    base = str(tmp_path / "moe")
    found = refused(workspace, spec_of(base, base, stack=[{"layers": [1, 2]}, {"layers": [1, 2]}]))
    assert found[0].startswith("stack: layer 0 of the result would be built unlike layer 1") and len(found) == 1
    run(workspace, spec_of(base, base, stack=[{"layers": [0, 2]}, {"layers": [0, 2]}]))


def test_an_adapter_cannot_be_written_of_a_stack() -> None:
    with pytest.raises(SpecError, match="an adapter has the layers and the tokens of its base"):
        spec_of("./base", "./a", method="linear", stack=TWICE, save="adapter")
