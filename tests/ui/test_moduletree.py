"""The tree of modules: each kind once with its shape and its blocks, and a click that names it or takes it back."""

import re

import pytest
from torch import nn

from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.jobs import anatomy
from workbench.jobs.anatomy import Module, modules
from workbench.ui.moduletree import knob_for, named, toggled, tree

discover()


def test_each_kind_of_module_stands_once_with_its_shape_and_blocks(workspace: Workspace) -> None:
    found = {module.path: module for module in modules("pocket", workspace)}
    assert found["mlp.up_proj"].blocks == tuple(range(len(found["mlp.up_proj"].blocks))) and found["mlp.up_proj"].call == "up_proj"
    assert found["model.embed_tokens"].blocks == () and len(found["model.embed_tokens"].shape) == 2
    assert found["mlp.up_proj"].shape == found["mlp.gate_proj"].shape == found["mlp.down_proj"].shape[::-1]


def test_a_name_that_two_end_with_is_called_by_more_of_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.ModuleDict({"h": nn.ModuleList([nn.ModuleDict({
        "attn": nn.ModuleDict({"c_proj": nn.Linear(2, 2), "c_attn": nn.Linear(2, 6)}), "mlp": nn.ModuleDict({"c_proj": nn.Linear(8, 2)}),
    }) for _ in range(2)])})  # fmt: skip
    monkeypatch.setattr(anatomy, "skeleton", lambda path: model)
    assert {module.path: module.call for module in modules("pocket", workspace)} == {
        "attn.c_proj": "attn.c_proj", "mlp.c_proj": "mlp.c_proj", "attn.c_attn": "c_attn",
    }  # fmt: skip


def test_an_end_is_of_whole_words_and_a_whole_path_is_always_a_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.ModuleDict({"h": nn.ModuleList([nn.ModuleDict({
        "proj": nn.Linear(2, 2), "mlp": nn.ModuleDict({"proj": nn.Linear(2, 2), "up_proj": nn.Linear(2, 2)}),
        "attn": nn.ModuleDict({"norm": nn.LayerNorm(2), "q_norm": nn.LayerNorm(2)}),
    })])})  # fmt: skip
    monkeypatch.setattr(anatomy, "skeleton", lambda path: model)
    assert {module.path: module.call for module in modules("pocket", workspace)} == {
        "proj": "proj", "mlp.proj": "mlp.proj", "mlp.up_proj": "up_proj", "attn.norm": "norm", "attn.q_norm": "q_norm",
    }  # fmt: skip


def test_a_click_names_a_module_and_another_takes_it_back() -> None:
    assert toggled("", "up_proj") == "up_proj" and toggled("q_proj,up_proj", "v_proj") == "q_proj, up_proj, v_proj"
    assert toggled("q_proj, up_proj", "q_proj") == "up_proj" and toggled("up_proj", "up_proj") == ""
    assert named(" a, b ,,c") == ["a", "b", "c"]


def test_those_that_are_named_are_pressed_and_what_is_written_is_escaped() -> None:
    some = [Module("mlp.up_proj", "up_proj", (8, 4), (0, 1, 2)), Module("mlp.<b>", "<b>", (4,), (1, 4)), Module("norm", "norm", (4,), ())]
    markup = tree(some, "up_proj")
    assert re.findall(r'data-pick="(.*?)" aria-pressed="(\w+)"', markup) == [("up_proj", "true"), ("&lt;b&gt;", "false"), ("norm", "false")]
    assert "8 × 4 · blocks 0–2" in markup and "4 · blocks 1, 4" in markup and "outside the blocks" in markup


def test_only_an_adapter_that_names_modules_has_the_tree() -> None:
    assert knob_for({"method": "modules"}) == "names" and knob_for({"method": "full"}) == ""
    assert knob_for({"method": "lora"}) == knob_for({"method": "lift"}) == "modules"


def test_where_only_matrices_can_be_named_the_others_are_shown_and_cannot_be_pressed() -> None:
    some = [Module("mlp.up_proj", "up_proj", (8, 4), (0,)), Module("norm1", "norm1", (4,), (0,)), Module("embed", "embed", (9, 4), ())]
    assert re.findall(r'data-pick="(\w+)" aria-pressed="false"( disabled)?', tree(some, "", every=False)) == [
        ("up_proj", ""), ("norm1", " disabled"), ("embed", " disabled"),
    ]  # fmt: skip
    assert " disabled" not in tree(some, "") and '<details class="module-tree" open>' in tree(some, "up_proj")


def test_a_module_may_be_named_by_its_whole_path_and_one_block_is_told_as_one() -> None:
    some = [Module("mlp.up_proj", "up_proj", (8, 4), (3,)), Module("<s>.norm", "norm", (4,), (0, 1))]
    markup = tree(some, "mlp.up_proj")
    assert re.findall(r'data-pick="?(\w+)"? aria-pressed="?(\w+)"?', markup) == [("up_proj", "true"), ("norm", "false")]
    assert "8 × 4 · block 3<" in markup and "4 · blocks 0–1<" in markup
    assert "&lt;s&gt;" in markup and "<s>" not in markup
