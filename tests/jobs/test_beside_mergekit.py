"""Every merge that mergekit has too, by both from the same YAML and the same float32 models: the numbers agree to float32's rounding.

mergekit 0.1.5 is no dependency; `pip install -e '.[dev,parity]'` brings it. Where it draws random numbers its own way (DARE, DELLA), all is
kept. Where we differ from it on purpose stands in the methods' docstrings; the names that it has and we do not answer to are below.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pico import make_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from workbench.core.method import discover, shelf
from workbench.core.spec import read_spec
from workbench.core.workspace import Workspace
from workbench.jobs.merge import merge

config = pytest.importorskip("mergekit.config", reason="mergekit is not installed: pip install -e '.[dev,parity]'")
kit = pytest.importorskip("mergekit.merge")

ALL: dict[str, list[dict[str, Any]]] = {  # method → its parameters, one recipe each
    "linear": [{}, {"normalize": False}],
    "slerp": [{"t": 0.3}],
    "karcher": [{}],
    "nuslerp": [{}, {"nuslerp_flatten": False}, {"base_model": True}],
    "multislerp": [{}, {"base_model": True}],
    "task_arithmetic": [{"lambda": 0.7}],
    "ties": [{"density": 0.5}, {"density": 0.3, "lambda": 0.8, "normalize": False}],
    "dare_linear": [{"density": 1.0}],
    "della": [{"density": 1.0}],
    "della_linear": [{"density": 1.0}],
    "breadcrumbs": [{"density": 0.6, "gamma": 0.05}],
    "breadcrumbs_ties": [{"density": 0.6, "gamma": 0.05}],
    "sce": [{"select_topk": 1.0}, {"select_topk": 0.5}],
    "ram": [{}],
    "ramplus_tl": [{}],
    "model_stock": [{}, {"filter_wise": True}],
    "nearswap": [{"t": 0.01}],
    "arcee_fusion": [{}],
    "passthrough": [{"scale": 0.9}],
}
WITHOUT_BASE = ("linear", "karcher", "passthrough", "nuslerp", "multislerp")
WITHOUT_WEIGHTS = ("karcher", "model_stock", "ram", "ramplus_tl", "sce")
FROM_BASE = ("slerp", "nearswap", "arcee_fusion")  # the base is one of two models
FLIPS = {"arcee_fusion": 0.02}  # numbers at its threshold: a divergence near 0 has lost its last digits in float32, and not here
NOT_OURS = {"dare_ties"}  # it adds up those who agree, where the authors and we take their mean


@pytest.fixture
def models(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """A base and two models tuned from it."""
    model, places = make_model().float(), []
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number in range(3):
        torch.manual_seed(number)
        model.load_state_dict({name: tensor + number * 0.01 * torch.randn_like(tensor) for name, tensor in start.items()})
        folder = tmp_path / f"model{number}"
        model.save_pretrained(folder)
        pico_tokenizer.save_pretrained(folder)
        places.append(str(folder))
    return places


def recipe(method: str, parameters: dict[str, Any], models: list[str]) -> dict[str, Any]:
    base, *tuned = models
    if method == "passthrough":
        entries = [{"model": tuned[0]}]
    elif method in FROM_BASE:
        entries = [{"model": base}, {"model": tuned[0]}]
    else:
        entries = [{"model": model, "parameters": {"weight": weight}} for model, weight in zip(tuned, (0.6, 0.4), strict=True)]
    if method in WITHOUT_WEIGHTS:
        entries = [{"model": entry["model"]} for entry in entries]
    on_base = method not in WITHOUT_BASE or "base_model" in parameters
    given = {name: value for name, value in parameters.items() if name != "base_model"}
    of = {"base_model": base} if on_base else {}
    return {"merge_method": method, **of, "models": entries, "parameters": given, "dtype": "float32"}


@pytest.mark.parametrize(("method", "parameters"), [(name, given) for name, recipes in ALL.items() for given in recipes])
def test_both_write_the_same(method: str, parameters: dict[str, Any], models: list[str], tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "recipe.yml"
    file.write_text(yaml.safe_dump(recipe(method, parameters, models)))
    discover()
    list(merge(read_spec(file, ["name=out"]), workspace.run("0001"), workspace))
    ours = load_file(workspace.model("out") / "model.safetensors")
    given = config.MergeConfiguration.model_validate(yaml.safe_load(file.read_text()))
    options = kit.MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
    kit.run_merge(given, str(tmp_path / "theirs"), options=options)
    theirs = {name: tensor for part in (tmp_path / "theirs").glob("*.safetensors") for name, tensor in load_file(part).items()}
    assert set(ours) == set(theirs)
    apart = {name: found for name, tensor in ours.items() if (found := apart_by(tensor, theirs[name])) > FLIPS.get(method, 0)}
    assert not apart


def apart_by(one: Tensor, other: Tensor) -> float:
    """The share of the numbers that differ by more than float32's rounding of the largest one."""
    return float(((one - other).abs() > 1e-6 * other.abs().max()).float().mean())


def test_every_method_that_both_have_is_held_against_it() -> None:
    discover()
    ours = {name for method in shelf("merges").values() for name in method.kit}
    registry = pytest.importorskip("mergekit.merge_methods.registry")
    assert set(ALL) == ours
    assert {method.spec.name for method in registry.registered_methods()} == ours | NOT_OURS
