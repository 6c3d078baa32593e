"""The laws of the inspections' shelf, held against every one of them (`methods/contracts.py` states them)."""

import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from subjects import moved, subject, unchanged
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from workbench.core.job import drain
from workbench.core.looking import LooksAtRows
from workbench.core.method import Method, discover, knobs_of, shelf
from workbench.core.picture import Finding
from workbench.materials.subject import Subject

discover()
INSPECTIONS = list(shelf("inspections").values())
Lay = Callable[..., Subject]


@pytest.fixture
def lay(tmp_path: Path, pico_tokenizer: PreTrainedTokenizerFast) -> Lay:
    """A function that lays models on the table for an inspection, with rows for every set that it names."""

    def build(method: Method, *tuned: Any) -> Subject:
        return subject(tmp_path, pico_tokenizer, tuned, method.looks_at())

    return build


@pytest.fixture(params=INSPECTIONS, ids=lambda method: method.name)
def method(request: pytest.FixtureRequest) -> Method:
    """Each inspection with as few rows as it takes and data sets named where it wants a name."""
    kind = request.param
    named = {knob.name: knob.name for knob in knobs_of(kind) if knob.names == "data" and knob.default == ""}
    return kind(**named)


def test_it_says_something_in_tables_that_json_can_hold(method: Method, lay: Lay) -> None:
    finding: Finding = drain(method.inspect(lay(method, moved(0.02), moved(0.05, seed=2))))
    assert finding.says and all(sentence.endswith(".") for sentence in finding.says)
    json.dumps(asdict(finding), allow_nan=False)
    assert set(finding.numbers) <= {"tuned 0", "tuned 1"}
    for table in finding.tables:
        assert table.rows and all(len(row) == len(table.columns) for row in table.rows)


def test_its_pictures_are_of_tables_and_columns_that_it_gives(method: Method, lay: Lay) -> None:
    tables = {table.name: table.columns for table in drain(method.inspect(lay(method, moved(0.02), moved(0.05, seed=2)))).tables}
    assert method.pictures
    for picture in method.pictures:
        wanted = {name for name in (picture.x, picture.y, picture.value, picture.each) if name}
        assert wanted <= set(tables[picture.table]), picture.title


def test_a_model_that_is_the_base_has_not_changed(method: Method, lay: Lay) -> None:
    finding = drain(method.inspect(lay(method, unchanged)))
    assert method.still, "each inspection knows at least one number of a model that has not changed"
    found = finding.numbers["tuned 0"]
    assert {name: found[name] for name in method.still} == pytest.approx(method.still, abs=1e-6)


def test_it_says_the_same_again_and_leaves_models_and_chance_as_they_were(method: Method, lay: Lay) -> None:
    laid = lay(method, moved(0.02))
    models = [laid.base, laid.tuned(0)]
    before = [{name: tensor.clone() for name, tensor in model.state_dict().items()} for model in models]
    torch.manual_seed(7)
    chance = torch.get_rng_state()
    first, again = drain(method.inspect(laid)), drain(method.inspect(laid))
    assert first == again and torch.equal(chance, torch.get_rng_state())
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_one_that_reads_rows_says_what_it_costs(method: Method) -> None:
    if isinstance(method, LooksAtRows):
        assert method.costs()


def test_no_more_than_two_models_are_in_memory(method: Method, lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that a loop leaves behind keeps a model alive while the next one is loaded."""
    loaded, plain = list[weakref.ref[PreTrainedModel]](), Subject._loaded

    def counted(laid: Subject, place: int) -> PreTrainedModel:
        gc.collect()
        assert sum(one() is not None for one in loaded) <= 1, "the one before is still there"
        model = plain(laid, place)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(Subject, "_loaded", counted)
    drain(method.inspect(lay(method, *[moved(0.02, seed) for seed in (1, 2, 3)])))
