"""Step safety (arXiv:2603.13552): against finite differences, the binary closed form, and the laws of scaling."""

import math

import pytest
import torch
from pico import make_model
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from workbench_kernels.logit_spread import Spread, logit_spread
from workbench_kernels.road import forced

from workbench.core.method import Method
from workbench.methods.adapters.full import Full
from workbench.methods.adapters.lora import LoRA
from workbench.methods.contracts import Attachment, Moment
from workbench.methods.probes import step_safety
from workbench.methods.probes.step_safety import Finding, StepSafety
from workbench.methods.updates.adamw import AdamW


def stepped(adapter: Method, batch: dict[str, Tensor], lr: float = 1e-2, **changes: object) -> tuple[Attachment, dict[str, Tensor]]:
    """An attachment after two optimizer steps, and the displacement of the second."""
    attachment = adapter.attach(make_model(**changes), seed=0)
    stepper = AdamW(lr=lr).begin(attachment.groups())
    displacement: dict[str, Tensor] = {}
    for _ in range(2):
        before = {name: parameter.detach().clone() for name, parameter in attachment.trained()}
        attachment.model(**batch).loss.backward()
        stepper.step(1.0, lambda: None)
        displacement = {name: parameter.detach() - before[name] for name, parameter in attachment.trained()}
    return attachment, displacement


@torch.no_grad()
def derivative(attachment: Attachment, displacement: dict[str, Tensor], batch: dict[str, Tensor], h: float = 1e-2) -> Tensor:
    """(N, V) central difference of the trained positions' logits along the step, about the point before it."""
    after = {name: parameter.clone() for name, parameter in attachment.trained()}

    def logits(share: float) -> Tensor:
        for name, parameter in attachment.trained():
            parameter.copy_(after[name] + (share - 1) * displacement[name])
        return attachment.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()

    found = (logits(h) - logits(-h)) / (2 * h)
    logits(1.0)
    return found[:, :-1][batch["labels"][:, 1:] != -100]


@pytest.mark.parametrize(
    "adapter, changes",
    [(LoRA(rank=4, dropout=0.3), {}), (Full(), {}), (Full(), {"tie_word_embeddings": False}), (Full(embeddings=False), {})],
    ids=["lora", "full tied", "full untied", "no embeddings"],
)
def test_r_is_the_widest_spread_of_the_logits_derivative_over_pi(adapter: Method, changes: dict, pico_batch: dict) -> None:
    attachment, displacement = stepped(adapter, pico_batch, **changes)
    values = StepSafety(rows=4).read(Moment(2, attachment, pico_batch, displacement)).values
    a = derivative(attachment, displacement, pico_batch)
    spread = (a.max(1).values - a.min(1).values).max().item()
    assert values["step_ratio"] == pytest.approx(spread / math.pi, rel=5e-3)
    assert values["tau"] == pytest.approx(math.sqrt(sum((step**2).sum().item() for step in displacement.values())), rel=1e-5)
    assert values["rho_a"] == pytest.approx(values["tau"] / values["step_ratio"])
    assert values["step_ratio_refined"] <= values["step_ratio"] * (1 + 1e-6)


def test_three_roads_to_the_derivative_agree(pico_batch: dict) -> None:
    """Dual numbers (the probe's), two backward passes (exact), and a small step to either side, each by itself."""
    attachment = LoRA(rank=4, dropout=0.0).attach(make_model(), seed=0)
    torch.manual_seed(1)
    displacement = {name: 1e-2 * torch.randn_like(parameter) for name, parameter in attachment.trained()}
    learnt = pico_batch["labels"][:, 1:] != -100
    names, now = zip(*attachment.trained(), strict=True)

    def logits(parameters: list[Tensor]) -> Tensor:
        inputs = {name: pico_batch[name] for name in ("input_ids", "attention_mask")}
        return functional_call(attachment.model, dict(zip(names, parameters, strict=True)), (), inputs).logits[:, :-1][learnt]

    before = [parameter.detach() - displacement[name] for name, parameter in zip(names, now, strict=True)]
    steps = [displacement[name] for name in names]
    with sdpa_kernel(SDPBackend.MATH):
        roots = [parameter.clone().requires_grad_() for parameter in before]
        out = logits(roots)
        probe = torch.zeros_like(out, requires_grad=True)
        pulled = torch.autograd.grad(out, roots, probe, create_graph=True)
        twice = torch.autograd.grad(sum((g * p).sum() for g, p in zip(pulled, steps, strict=True)), probe)[0]
        with torch.no_grad():
            h = 1e-2
            sides = [logits([value + share * step for value, step in zip(before, steps, strict=True)]) for share in (h, -h)]
            secant = (sides[0] - sides[1]) / (2 * h)
    assert torch.allclose(twice, secant, rtol=1e-3, atol=1e-3 * twice.abs().max().item())
    spread = (twice.max(1).values - twice.min(1).values).max().item()
    assert StepSafety(rows=4).read(Moment(2, attachment, pico_batch, displacement)).values["step_ratio"] == pytest.approx(
        spread / math.pi, rel=1e-4
    )


def test_the_beginning_of_a_row_reads_as_it_does_in_the_whole_row(pico_batch: dict) -> None:
    """So a long pack costs no more than the tokens one asks for; where they hold nothing learnt, all is read."""
    attachment, displacement = stepped(LoRA(rank=4, dropout=0.0), pico_batch)
    ids = pico_batch["input_ids"].reshape(1, -1)  # one row of 48 tokens
    early, late = (torch.full_like(ids, -100) for _ in range(2))
    early[:, :16], late[:, 40:] = ids[:, :16], ids[:, 40:]

    def ratio(labels: Tensor, tokens: int) -> float:
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        return StepSafety(rows=1, tokens=tokens).read(Moment(2, attachment, batch, displacement)).values["step_ratio"]

    assert ratio(early, 16) == pytest.approx(ratio(early, 512), rel=1e-5)
    assert ratio(late, 16) == pytest.approx(ratio(late, 512), rel=1e-5)
    assert ratio(ids, 16) < ratio(ids, 512), "and a longer look finds a worse token here"


def test_no_token_behind_the_last_learnt_one_is_read(pico_batch: dict) -> None:
    attachment, displacement = stepped(LoRA(rank=4, dropout=0.0), pico_batch)
    seen, batch = list[torch.Size](), {**pico_batch, "labels": pico_batch["labels"].clone()}
    batch["labels"][:, 6:] = -100
    attachment.model.base_model.register_forward_pre_hook(lambda _, args, given: seen.append(given["input_ids"].shape), with_kwargs=True)
    few = StepSafety().read(Moment(2, attachment, batch, displacement)).values
    last = int((batch["labels"][:2, 1:] != -100).nonzero()[:, 1].max())
    assert seen == [(2, last + 2)] and last + 2 < batch["labels"].shape[1], "with the label, which the sentence names"
    short = {name: tensor[:2, : last + 2] for name, tensor in batch.items()}
    assert few["step_ratio"] == StepSafety().read(Moment(2, attachment, short, displacement)).values["step_ratio"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_that_moved_is_read_as_it_was_in_the_models_own_numbers(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 a GPU would multiply by another kernel, many times slower."""
    model, heads, spread = make_model(tie_word_embeddings=False).to(dtype), list[Tensor](), step_safety.logit_spread
    before, step = model.lm_head.weight.detach().clone(), 1e-2 * torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.lm_head.weight += step
    monkeypatch.setattr(step_safety, "logit_spread", lambda *given: heads.append(given[2]) or spread(*given))
    step_safety._spread(model, torch.randn(2, 32), torch.randn(2, 32), {"lm_head.weight": model.lm_head.weight.float() - before.float()})
    assert heads[0].dtype == dtype
    torch.testing.assert_close(heads[0], before, rtol=0, atol=1e-7)


def test_r_is_proportional_to_the_step(pico_batch: dict) -> None:
    attachment, displacement = stepped(LoRA(rank=4, dropout=0), pico_batch)
    one = StepSafety().read(Moment(2, attachment, pico_batch, displacement)).values
    half = {name: step / 2 for name, step in displacement.items()}
    with torch.no_grad():  # the point before the step must stay where it was
        for name, parameter in attachment.trained():
            parameter.sub_(half[name])
    two = StepSafety().read(Moment(2, attachment, pico_batch, half)).values
    assert two["step_ratio"] == pytest.approx(one["step_ratio"] / 2, rel=1e-4)
    assert two["rho_a"] == pytest.approx(one["rho_a"], rel=1e-4)


@pytest.mark.parametrize("gap", [0.0, 2.0, 6.0])
def test_two_classes_have_the_papers_closed_form(gap: float) -> None:
    """ρ* = √(δ² + π²) / Δ_a for two classes: the refined radius is exact, the plain one is π / Δ_a."""
    weight, hidden = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[gap, 0.0]])
    finding = Finding.of(logit_spread(hidden, torch.tensor([[0.3, -0.4]]), weight), tau=1.0)
    assert 1 / finding.ratio == pytest.approx(math.pi / 0.7, rel=1e-5)
    assert 1 / finding.refined == pytest.approx(math.sqrt(gap**2 + math.pi**2) / 0.7, rel=1e-4)


def test_it_speaks_up_above_one_and_names_the_token(pico_batch: dict) -> None:
    attachment, displacement = stepped(LoRA(rank=4), pico_batch, lr=0.5)
    reading = StepSafety().read(Moment(20, attachment, pico_batch, displacement, decode=lambda token: f"<{token}>"))
    assert reading.values["step_ratio"] > 1 and reading.level in ("watch", "act")
    assert "Step 20: r = " in reading.says and "<" in reading.says


def test_it_is_read_at_the_first_step_and_then_every_so_often() -> None:
    assert [step for step in range(1, 31) if StepSafety(every=10).due(step)] == [1, 10, 20, 30]


def test_ninety_nine_of_a_hundred_tokens_lie_below_the_quantile() -> None:
    width, zeros = torch.arange(1.0, 202.0) * math.pi, torch.zeros(201)
    found = Finding.of(Spread(width, zeros, zeros.long(), zeros.long(), zeros, zeros, zeros), 1.0)
    assert found.ratio == pytest.approx(201) and found.most == pytest.approx(199)


class Opaque(torch.autograd.Function):
    """SiLU as a fused kernel would bring it: with a backward pass and no forward derivative."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.silu(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x.sigmoid() * (1 + x * (1 - x.sigmoid())))


class OpaqueSiLU(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Opaque.apply(x)


@pytest.mark.parametrize("lr", [1e-4, 1e-2, 0.3])
def test_where_there_is_no_forward_derivative_a_short_secant_finds_the_same(lr: float, pico_batch: dict) -> None:
    """Also where the step is so long that a secant over the whole of it would see half of what it is."""
    attachment, displacement = stepped(LoRA(rank=4, dropout=0.0), pico_batch, lr=lr)
    moment = Moment(2, attachment, pico_batch, displacement)
    exact = StepSafety().read(moment).values
    for layer in attachment.model.model.layers:
        layer.mlp.act_fn = OpaqueSiLU()
    found = StepSafety().read(moment).values
    assert "secant_share" not in exact and 0 < found["secant_share"] <= 1
    assert found["step_ratio"] == pytest.approx(exact["step_ratio"], rel=0.01)


def test_the_derivative_goes_by_plain_torch_alone(pico_batch: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel has no forward derivative; the head's part has none to take and stays free."""
    attachment, displacement = stepped(LoRA(rank=4), pico_batch)
    roads, call, spread = list[str | None](), step_safety.functional_call, step_safety.logit_spread
    monkeypatch.setattr(step_safety, "functional_call", lambda *given: roads.append(forced()) or call(*given))
    monkeypatch.setattr(step_safety, "logit_spread", lambda *given: roads.append(forced()) or spread(*given))
    StepSafety().read(Moment(1, attachment, pico_batch, displacement))
    assert roads == ["reference", None]


def test_another_error_is_not_taken_for_a_missing_derivative(pico_batch: dict) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    attachment, displacement = stepped(LoRA(rank=4), pico_batch)
    attachment.model.model.layers[0].mlp.act_fn = Broken()
    with pytest.raises(RuntimeError, match="out of memory"):
        StepSafety().read(Moment(2, attachment, pico_batch, displacement))
