"""The laws of each shelf, held against every method of the registry (`methods/contracts.py` states them); selectors have a
file of their own (`test_every_selector.py`)."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_batch, make_model
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from workbench.core.beside import Unmergeable
from workbench.core.job import drain
from workbench.core.method import SHELVES, Method, discover, knobs_of
from workbench.materials.evidence import Evidence
from workbench.materials.lora import Factors
from workbench.materials.models import ModelRef, load, weights_by_module
from workbench.materials.templates import Encoded
from workbench.methods.contracts import Attachment, Informed, Moment, Slot, Speaker

discover()
ROOT = Path(__file__).parents[1]
ROWS = [Encoded(list(range(start, start + 12)), [False] * 4 + [True] * 8, 0) for start in range(2, 90, 11)]
METHODS = [method for methods in SHELVES.values() for method in methods.values()]


def on(shelf: str) -> list[type[Method]]:
    return [method for method in METHODS if method.shelf == shelf]


def named(method: type[Method]) -> str:
    return f"{method.shelf}-{method.name}"


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_it_explains_itself(method: type[Method]) -> None:
    assert method.title() and method.summary().endswith("."), "a title, and a first sentence that ends"
    assert len(method.doc()) > 100, "the docstring is the card people read"
    assert method.paper == "" or re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", method.paper)
    for knob in knobs_of(method):
        assert knob.help and not knob.help.endswith("."), f"knob {knob.name} has one line of help"
    assert {knob.name for knob in knobs_of(method)} == set(method.model_fields), "every field is a knob"


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_it_survives_json(method: type[Method]) -> None:
    chosen = json.loads(json.dumps(method().chosen()))
    assert chosen.pop("method") == method.name
    assert method(**chosen) == method()


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_it_has_a_test_of_its_own(method: type[Method]) -> None:
    assert (ROOT / f"tests/methods/{method.shelf}/test_{method.name}.py").exists(), "adding a method is two files: itself and its test"


# Adapters.


def attached(method: type[Method], model: LlamaForCausalLM, seed: int = 0) -> Attachment:
    """The adapter with its defaults on the model; one that looks at rows has looked at some."""
    adapter = method()
    if not isinstance(adapter, Informed):
        return adapter.attach(model, seed)
    rows = dict.fromkeys(adapter.looks_at(), ROWS)
    return adapter.attach(model, seed, drain(adapter.study(model, Evidence(rows, 0, torch.device("cpu")))))


def learn(attachment: Attachment, batch: dict[str, Tensor], steps: int = 2) -> None:
    parameters = [parameter for group in attachment.groups() for parameter in group["params"]]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for step in range(1, steps + 1):
        attachment.model(**batch).loss.backward()
        attachment.before_step(step)
        optimizer.step()
        attachment.after_step(step)
        optimizer.zero_grad()


@torch.no_grad()
def answer(model: torch.nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_changes_nothing_at_step_0_and_moves_only_what_it_declares(method: type[Method], pico_batch: dict) -> None:
    model = make_model()
    before = answer(model, pico_batch)
    attachment = attached(method, model)
    assert torch.equal(answer(attachment.model, pico_batch), before) == method.starts_at_base
    assert method.starts_at_base or "does not start" in method().costs(), "who starts elsewhere says so before the start"
    attachment.model(**pico_batch).loss.backward()
    declared = {id(parameter) for group in attachment.groups() for parameter in group["params"]}
    moving = {id(parameter) for parameter in attachment.model.parameters() if parameter.grad is not None}
    assert moving <= declared and declared == {id(parameter) for _, parameter in attachment.trained()}
    assert sum(len(group["params"]) for group in attachment.groups()) == len(declared), "each parameter stands in one group"


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_costs_what_it_says(method: type[Method]) -> None:
    cost = method().cost(make_model())
    with torch.device("meta"):
        assert method().cost(make_model()) == cost, "the cost follows from the shape alone"
    attachment = attached(method, make_model())
    moving = sum(parameter.numel() for _, parameter in attachment.trained())
    assert cost.trained >= moving > 0 if issubclass(method, Informed) else cost.trained == moving
    assert cost.moved >= cost.trained
    assert cost.total == sum(parameter.numel() for *_, parameter in weights_by_module(make_model())) + cost.added
    assert cost.trained == sum(row[2] for row in cost.by_module) and cost.total == sum(row[3] for row in cost.by_module)


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_gives_the_base_back(method: type[Method], pico_batch: dict) -> None:
    before = answer(make_model(), pico_batch)
    attachment = attached(method, make_model())
    learn(attachment, pico_batch)
    after = answer(attachment.model, pico_batch)
    with attachment.base():
        assert torch.equal(answer(attachment.model, pico_batch), before)
    assert torch.equal(answer(attachment.model, pico_batch), after) and not torch.allclose(after, before)


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_saves_and_loads(method: type[Method], pico_batch: dict, tmp_path: Path) -> None:
    attachment = attached(method, make_model())
    learn(attachment, pico_batch)
    (tmp_path / "saved").mkdir()
    attachment.save(tmp_path / "saved")
    assert list((tmp_path / "saved").glob("*.safetensors")) and not list((tmp_path / "saved").glob("*.bin"))
    if method.whole:
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    elif issubclass(method, Unmergeable):
        make_model().save_pretrained(tmp_path / "base")
        loaded = load(ModelRef("it", "it", str(tmp_path / "base"), tmp_path / "saved"), torch.device("cpu"), torch.float32)
    else:
        loaded = PeftModel.from_pretrained(make_model(), tmp_path / "saved").merge_and_unload()
    assert torch.allclose(answer(loaded, pico_batch), answer(attachment.model, pico_batch), atol=1e-5)


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_goes_on_from_its_state(method: type[Method], pico_batch: dict) -> None:
    attachment = attached(method, make_model())
    learn(attachment, pico_batch)
    other = attached(method, make_model(), seed=1)
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(answer(other.model, pico_batch), answer(attachment.model, pico_batch))


@pytest.mark.parametrize("method", on("adapters"), ids=named)
def test_an_adapter_divides_a_run_if_and_only_if_something_else_begins_between_the_parts(method: type[Method]) -> None:
    begins = type(attached(method, make_model())).next_link is not Attachment.next_link
    assert (method().links() > 1) == begins


# Probes.


def refuse(tensor: Tensor) -> Tensor:
    raise AssertionError("a probe keeps activations for a backward pass that never comes")


Stepped = tuple[Attachment, dict[str, Tensor]]


@pytest.fixture(scope="module", params=on("adapters"), ids=named)
def stepped(request: pytest.FixtureRequest) -> Stepped:
    """An adapter that has taken a step and is about to take another, and how far the first one went. One for all probes: they change
    nothing."""
    attachment = attached(request.param, make_model())
    before = {name: parameter.detach().clone() for name, parameter in attachment.trained()}
    learn(attachment, make_batch(), steps=1)
    displacement = {name: parameter.detach() - before[name] for name, parameter in attachment.trained()}
    attachment.model.train()
    attachment.model(**make_batch()).loss.backward()
    return attachment, displacement


@pytest.mark.parametrize("method", on("probes"), ids=named)
def test_a_probe_changes_nothing(method: type[Method], stepped: Stepped, pico_batch: dict) -> None:
    attachment, displacement = stepped
    held = {name: (p.detach().clone(), None if p.grad is None else p.grad.clone()) for name, p in attachment.model.named_parameters()}
    random = torch.get_rng_state()
    with saved_tensors_hooks(refuse, refuse):
        reading = method().read(Moment(10, attachment, pico_batch, attachment.dense(displacement), known=[pico_batch], decode=str))
    assert reading.values and all(isinstance(value, float) for value in reading.values.values())
    assert torch.equal(torch.get_rng_state(), random) and attachment.model.training
    for name, parameter in attachment.model.named_parameters():
        value, gradient = held[name]
        assert torch.equal(parameter, value)
        assert (parameter.grad is None) == (gradient is None) and (gradient is None or torch.equal(parameter.grad, gradient))


# Merges.

TENSORWISE = [method for method in on("merges") if not method.whole and not method.factored]
FACTORED = [method for method in on("merges") if method.factored]
SLOTS = [
    Slot("model.layers.0.mlp.up_proj.weight", 0.0, 0, 3),
    Slot("model.layers.2.input_layernorm.weight", 1.0, 2, 3),
    Slot("model.embed_tokens.weight", None, None, 3),
]


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.name)
@pytest.mark.parametrize("method", TENSORWISE, ids=named)
def test_a_merge_of_copies_of_the_base_is_the_base(method: type[Method], slot: Slot) -> None:
    torch.manual_seed(0)
    base = torch.randn(6) if "norm" in slot.name else torch.randn(6, 4)
    for count in range(method.least, min(4, method.most + 1)):
        merged = method().tensor(slot, base, [base.clone() for _ in range(count)], [1.0] * count)
        assert merged.shape == base.shape and merged.dtype == torch.float32
        assert torch.allclose(merged, base, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", TENSORWISE, ids=named)
def test_a_merge_changes_none_of_its_inputs_and_explains_itself_in_numbers(method: type[Method]) -> None:
    torch.manual_seed(0)
    base, tuned = torch.randn(6, 4), [torch.randn(6, 4) for _ in range(min(3, method.most))]
    weights = [1.0, 2.0, 0.5][: len(tuned)]
    held = [tensor.clone() for tensor in (base, *tuned)]
    merged = method().tensor(SLOTS[0], base, tuned, weights)
    numbers = method().explain(SLOTS[0], base, tuned, weights)
    assert torch.isfinite(merged).all() and all(torch.equal(a, b) for a, b in zip((base, *tuned), held, strict=True))
    assert numbers and all(isinstance(value, float) for value in numbers.values())


@pytest.mark.parametrize("method", TENSORWISE, ids=named)
def test_a_merge_in_blocks_is_the_merge_of_the_whole(method: type[Method]) -> None:
    torch.manual_seed(0)
    base, merge = torch.randn(6, 4), method()
    tuned = [base + torch.randn(6, 4) for _ in range(min(3, method.most))]
    weights = [1.0] * len(tuned)
    known = merge.known(SLOTS[0], base, tuned, weights)
    whole = merge.tensor(known, base, tuned, weights)
    for cuts in ([0, 2, 3, 6], [0, 1, 6]):
        parts = [
            merge.tensor(replace(known, first=start), base[start:stop], [model[start:stop] for model in tuned], weights)
            for start, stop in itertools.pairwise(cuts)
        ]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("method", TENSORWISE, ids=named)
def test_a_merge_that_was_seeded_comes_out_the_same_again(method: type[Method]) -> None:
    torch.manual_seed(0)
    base, *tuned = torch.randn(1 + min(3, method.most), 6, 4)
    given = SLOTS[0], base, tuned, [1.0] * len(tuned)
    assert torch.equal(method().tensor(*given), method().tensor(*given))


def adapters(count: int, rank: int = 2) -> list[Factors]:
    torch.manual_seed(0)
    return [Factors(torch.randn(6, rank).double(), torch.randn(rank, 4).double()) for _ in range(count)]


@pytest.mark.parametrize("method", FACTORED, ids=named)
def test_a_merge_of_adapters_that_change_nothing_changes_nothing(method: type[Method]) -> None:
    still = [Factors(torch.zeros(6, 2).double(), pair.right) for pair in adapters(method.least)]
    for tuned in (still, [Factors(torch.zeros(6, 0).double(), torch.zeros(0, 4).double()), *still[1:]]):
        change, _ = method().factors(SLOTS[0], tuned, [1.0] * len(tuned))
        assert torch.equal(change.left @ change.right, torch.zeros(6, 4).double())


@pytest.mark.parametrize("method", FACTORED, ids=named)
def test_a_merge_of_adapters_changes_none_of_them_and_tells_the_same_names_of_every_matrix(method: type[Method]) -> None:
    tuned = adapters(method.least + 1)
    held, weights = [(pair.left.clone(), pair.right.clone()) for pair in tuned], [1.0, 2.0, 0.5, 1.0, 1.0][: len(tuned)]
    found = [method().factors(SLOTS[0], given, weights) for given in (tuned, tuned, [*adapters(2, 1), *tuned[2:-1], adapters(1, 0)[0]])]
    (change, numbers), (again, _), (_, others) = found
    assert torch.equal(change.left, again.left) and torch.equal(change.right, again.right)
    assert change.left.dtype == change.right.dtype == torch.float64 and torch.isfinite(change.left @ change.right).all()
    assert all(torch.equal(pair.left, left) and torch.equal(pair.right, right) for pair, (left, right) in zip(tuned, held, strict=True))
    assert numbers and list(numbers) == list(others) and all(isinstance(value, float) for value in [*numbers.values(), *others.values()])


# Decoders.


class Fixed(Speaker):
    """A voice that always says the same: the sum of its parameters, of each kind one."""

    def __init__(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        names = ("embed_tokens", "layers.0.mlp.up_proj", "layers.0.input_layernorm", "layers.7.self_attn.q_proj", "norm")
        self.held = {name: torch.randn(11, generator=generator) for name in (*(f"model.{name}.weight" for name in names), "lm_head.weight")}

    def logits(self, tokens: object) -> Tensor:
        return sum(self.held.values(), torch.zeros(11))

    def anew(self) -> Speaker:
        return self

    def texts(self, tokens: Sequence[int]) -> list[str]:
        return [str(token) for token in tokens]

    @contextmanager
    def lent(self, other: "Fixed", named: Callable[[str], bool]) -> Iterator[None]:
        own, self.held = self.held, {name: (other if named(name) else self).held[name] for name in self.held}
        yield
        self.held = own


@pytest.mark.parametrize("method", on("decoders"), ids=named)
def test_a_decoder_with_neutral_knobs_is_the_plain_model(method: type[Method]) -> None:
    voice = Fixed(1)
    says = method(**method.neutral).begin(voice, Fixed(2))
    assert torch.allclose(says.logits([1, 2]).softmax(-1), voice.logits([1, 2]).softmax(-1))
