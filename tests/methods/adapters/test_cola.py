"""COLA (arXiv:2401.04151): a new link changes nothing that is said, the last one alone moves, and all together are one LoRA."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pico import make_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from workbench.materials.chain import ChainAttachment
from workbench.materials.lora import read_lora
from workbench.methods.adapters.cola import COLA
from workbench.methods.adapters.lora import LoRA
from workbench.methods.updates.adamw import AdamW

KNOBS = {"rank": 2, "alpha": 6.0, "dropout": 0.1}
IDS = torch.arange(5, 45).reshape(4, 10)
QUERY = "model.layers.0.self_attn.q_proj"


@torch.no_grad()
def said(model: torch.nn.Module) -> Tensor:
    return model.eval()(IDS).logits


def learn(attachment: ChainAttachment, steps: int = 3) -> None:
    stepper = AdamW(lr=2e-2).begin(attachment.groups())
    attachment.model.train()
    for _ in range(steps):
        attachment.model(IDS, labels=IDS).loss.backward()
        stepper.step(1.0, lambda: None)


def chained(links: int, **knobs: object) -> ChainAttachment:
    """A chain of that many links, each of which has learnt something."""
    attachment = COLA(**{**KNOBS, **knobs}).attach(make_model(), seed=3)
    learn(attachment)
    for _ in range(1, links):
        attachment.next_link()
        learn(attachment)
    return attachment


def change(attachment: ChainAttachment, links: list[str] | None = None) -> Tensor:
    layer = attachment.model.get_submodule(QUERY)
    return sum(3.0 * (layer.lora_B[link].weight @ layer.lora_A[link].weight) for link in links or attachment.links).detach()


def test_a_new_link_changes_nothing_that_is_said_and_no_random_state() -> None:
    attachment = chained(1)
    for number in (2, 3):
        before, random = said(attachment.model), torch.get_rng_state()
        attachment.next_link()
        assert torch.equal(torch.get_rng_state(), random) and len(attachment.links) == number
        assert torch.equal(attachment.model(IDS).logits, before), "in evaluation, where the new modules are too"
        assert torch.equal(torch.get_rng_state(), random)
        learn(attachment)
        assert not torch.allclose(said(attachment.model), before)


def test_the_last_link_alone_moves_and_nothing_is_dropped_in_the_others() -> None:
    attachment = chained(2, dropout=0.5)
    attachment.next_link()
    before = {name: tensor.clone() for name, tensor in attachment.state().items()}
    spoken = said(attachment.model)
    attachment.model.train()
    assert torch.equal(attachment.model(IDS).logits, spoken), "the new link says nothing yet"
    learn(attachment)
    moved = {name for name, tensor in attachment.state().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, _ in attachment.trained()} == {name for name in before if ".link3." in name}
    assert [id(p) for group in attachment.groups() for p in group["params"]] == [id(p) for _, p in attachment.trained()]
    attachment.model.train()
    assert not torch.equal(attachment.model(IDS).logits, attachment.model(IDS).logits), "and there inputs are dropped"


def test_the_base_comes_back_exactly_and_closed_links_stay_closed() -> None:
    attachment = chained(3)
    after, names = said(attachment.model), [name for name, _ in attachment.trained()]
    with attachment.base():
        assert torch.equal(said(attachment.model), said(make_model()))
    with pytest.raises(RuntimeError, match="on the way"), attachment.base():
        raise RuntimeError("on the way")
    assert torch.equal(said(attachment.model), after)
    assert [name for name, _ in attachment.trained()] == names and all(".link3." in name for name in names)


def test_the_change_is_the_sum_of_the_links_and_of_higher_rank_than_one() -> None:
    attachment = chained(3)
    assert torch.linalg.matrix_rank(change(attachment), rtol=1e-5) == 6
    assert all(torch.linalg.matrix_rank(change(attachment, [link]), rtol=1e-5) == 2 for link in attachment.links)
    merged, state = make_model(), attachment.state()
    for name, parameter in merged.named_parameters():
        stem = name.removesuffix(".weight")
        for link in attachment.links if f"{stem}.lora_A.default.weight" in state else ():
            parameter.data += 3.0 * state[f"{stem}.lora_B.{link}.weight"] @ state[f"{stem}.lora_A.{link}.weight"]
    assert torch.allclose(said(merged), said(attachment.model), atol=1e-5)
    assert not torch.allclose(said(merged), said(make_model()), atol=1e-2)


def saved(attachment: ChainAttachment, folder: Path) -> Path:
    folder.mkdir()
    attachment.save(folder)
    return folder


def test_what_is_saved_is_one_lora_that_peft_opens_without_us(tmp_path: Path) -> None:
    attachment = chained(3)
    folder = saved(attachment, tmp_path / "adapter")
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    opened = PeftModel.from_pretrained(make_model(), folder)
    assert opened.peft_config["default"].r == 6 and list(opened.peft_config) == ["default"]
    assert torch.allclose(said(opened), said(attachment.model), atol=1e-5)
    ours = read_lora(folder, "ours").factors[f"{QUERY}.weight"]
    assert torch.allclose((ours.left @ ours.right).float(), change(attachment), atol=1e-6)


def test_a_prefix_of_the_links_is_cut_out_of_what_is_saved(tmp_path: Path) -> None:
    """As the docstring says: the first k·r rows of A and columns of B, with alpha k·α."""
    attachment = chained(2)
    wanted = said(attachment.model)
    attachment.next_link()
    learn(attachment)
    folder = saved(attachment, tmp_path / "adapter")
    sides, config = load_file(folder / "adapter_model.safetensors"), json.loads((folder / "adapter_config.json").read_text())
    cut = {name: (side[:4] if "lora_A" in name else side[:, :4].contiguous()) for name, side in sides.items()}
    save_file(cut, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 4, "lora_alpha": 2 * KNOBS["alpha"]}))
    assert torch.allclose(said(PeftModel.from_pretrained(make_model(), folder)), wanted, atol=1e-5)


@pytest.mark.parametrize("now", [1, 2, 3])
def test_a_state_brings_its_links_along(now: int) -> None:
    """Two links into a chain that has fewer, as many, or more; then both go on alike."""
    attachment, other = chained(2), chained(now)
    random = torch.get_rng_state()
    other.load_state({name: tensor.clone() for name, tensor in attachment.state().items()})
    assert torch.equal(torch.get_rng_state(), random)
    assert other.links == attachment.links == ["default", "link2"]
    assert torch.equal(said(other.model), said(attachment.model))
    assert [name for name, _ in other.trained()] == [name for name, _ in attachment.trained()]
    for one in (attachment, other):
        torch.manual_seed(5)
        learn(one)
        one.next_link()
        learn(one)
    assert torch.equal(said(other.model), said(attachment.model))


def test_each_link_starts_from_a_place_of_its_own_that_the_seed_fixes() -> None:
    def starts(seed: int) -> list[Tensor]:
        attachment = COLA(**KNOBS).attach(make_model(), seed)
        attachment.next_link()
        attachment.next_link()
        state = attachment.state()
        assert not any(state[f"{QUERY}.lora_B.{link}.weight"].any() for link in attachment.links)
        return [state[f"{QUERY}.lora_A.{link}.weight"] for link in attachment.links]

    one, again, other = starts(0), starts(0), starts(1)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a in one for b in [*other, *(c for c in one if c is not a)])
    assert all(0 < float(a.abs().max()) <= 32**-0.5 for a in one), "Kaiming-uniform with a = √5"


def test_one_link_is_lora(tmp_path: Path) -> None:
    one, lora = COLA(**KNOBS, chain=1).attach(make_model(), seed=4), LoRA(**KNOBS).attach(make_model(), seed=4)
    for attachment in (one, lora):
        torch.manual_seed(0)
        learn(attachment)
    mine, theirs = saved(one, tmp_path / "one"), saved(lora, tmp_path / "lora")
    assert {path.name: path.read_bytes() for path in mine.glob("*.safetensors")} == {
        path.name: path.read_bytes() for path in theirs.glob("*.safetensors")
    }
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (mine, theirs)]
    assert {name for name in configs[0] if configs[0][name] != configs[1][name]} <= {"target_modules"}, "whose order is a set's"
    assert COLA(chain=1).costs() == "" and COLA(chain=1).links() == 1 and "rank 48" in COLA().costs()
