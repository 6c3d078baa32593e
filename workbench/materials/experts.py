"""Experts that share one frozen MLP: each is a LoRA of its three matrices, and a router gives every token to a few of them.

    a_e = act(W_g x + s B_g^e A_g^e x) ⊙ (W_u x + s B_u^e A_u^e x),   y = Σ_e w_e (W_d a_e + s B_d^e A_d^e a_e),   Σ_e w_e = 1

What it is not: how many, or how they start, which is a method's (`methods/adapters/mixlora.py`). The weights of the experts add up to 1 and
W_d is linear, so Σ w_e W_d a_e = W_d (a + Σ w_e (a_e − a)) with a what the MLP alone would have: each of the frozen matrices is
multiplied once for a token, however many experts it has [D], and where every B is zero the sum is a, to the bit.

Balance. aux = E Σ_e f_e P̄_e is 1 where all experts get equally much; f_e is the share of the choices that fell on e and counts as a
constant, P̄_e the mean over N tokens of the router's probabilities P. With l the router's logits,

    ∂aux/∂l_te = E/N · P_te (f_e − Σ_j f_j P_tj),   ∂aux/∂W_r = Σ_t (∂aux/∂l_t) x_tᵀ   [D]

which is added up in the forward passes that train and handed out once the gradients of a step are complete (`pull`): the mean over all
tokens of these passes, whether they came in one batch or in many, were read once or again to save memory, or the loss was scaled meanwhile.
It reaches the router alone, not what earlier layers say [O]; padding counts as tokens [O]. Tags: [D] derived, [O] our own choice.
"""

from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.beside import Beside

GATE, UP, DOWN = "gate_proj", "up_proj", "down_proj"


class LowRank(Beside):
    """A plain LoRA beside one matrix, for what is not the experts' but learns with them; zero until it is set."""

    def __init__(self, ins: int, outs: int, rank: int, scale: float):
        super().__init__()
        self.scale = float(scale)
        self.read, self.write = nn.Parameter(torch.zeros(rank, ins)), nn.Parameter(torch.zeros(outs, rank))

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        return cls(*_sides(model, model.get_submodule(name)), **settings)

    def settings(self) -> dict[str, Any]:
        return {"rank": len(self.read), "scale": self.scale}

    def hook(self, host: nn.Module) -> None:
        host.register_forward_hook(self._add)

    def _add(self, host: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output if self.still else output + _low_rank(inputs[0], self.read, self.write, self.scale)


class Experts(Beside):
    """`experts` of them beside one gated MLP, of which each token gets `chosen`; zero until they are set."""

    def __init__(self, width: int, inner: int, experts: int, chosen: int, rank: int, scale: float):
        super().__init__()
        self.experts, self.chosen, self.rank, self.scale = experts, chosen, rank, float(scale)
        sides = {GATE: (width, inner), UP: (width, inner), DOWN: (inner, width)}
        self.router = nn.Parameter(torch.zeros(experts, width))
        self.read = nn.ParameterDict({name: nn.Parameter(torch.zeros(experts, rank, ins)) for name, (ins, _) in sides.items()})
        self.write = nn.ParameterDict({name: nn.Parameter(torch.zeros(experts, outs, rank)) for name, (_, outs) in sides.items()})
        self.forget()

    @classmethod
    def at(cls, model: PreTrainedModel, name: str, **settings: Any) -> Self:
        host = model.get_submodule(name)
        width, inner = sides(model, name)
        if "forward" in vars(host):
            raise WorkbenchError(f"{name} has experts already, and new ones would silence them. Choose another adapter, or the base alone.")
        with torch.no_grad():
            probe = torch.linspace(-1, 1, 2 * width, device=model.device, dtype=model.dtype).view(2, width)
            if not torch.equal(type(host).forward(host, probe), host.get_submodule(DOWN)(_inner(host, *_read(host, probe)))):
                raise _other(model)
        return cls(width, inner, **settings)

    def settings(self) -> dict[str, Any]:
        return {"experts": self.experts, "chosen": self.chosen, "rank": self.rank, "scale": self.scale}

    def hook(self, host: nn.Module) -> None:
        """In place of the host's own forward, because hooks could only throw away what it has multiplied."""
        host.forward = partial(self._instead, host)  # type: ignore[method-assign]

    def forward(self, host: nn.Module, inputs: Tensor) -> Tensor:
        gate, up = _read(host, inputs)
        x, g, u = (tensor.flatten(0, -2) for tensor in (inputs, gate, up))
        shares, chosen = self._routed(x)
        mixed, more = torch.zeros_like(g), g.new_zeros(x.shape)
        for expert in range(self.experts):
            token, place = torch.where(chosen == expert)
            if len(token):
                share, own_g, own_u = shares[token, place, None].to(g.dtype), g[token], u[token]
                inner = _inner(host, own_g + self._change(GATE, expert, x[token]), own_u + self._change(UP, expert, x[token]))
                mixed.index_add_(0, token, share * (inner - _inner(host, own_g, own_u)))
                more.index_add_(0, token, share * self._change(DOWN, expert, inner))
        return host.get_submodule(DOWN)(_inner(host, gate, up) + mixed.view_as(gate)) + more.view_as(inputs)

    def forget(self) -> None:
        """Begin to add up what balances the router, and what each expert is given."""
        self.tally = torch.zeros(self.experts, self.router.shape[1] + 1, device=self.router.device)

    def pull(self) -> Tensor | None:
        """(E, D) the gradient of aux with respect to the router since `forget`; None where no pass has trained."""
        tokens = self.given().sum() / self.chosen
        return self.tally[:, :-1] / tokens if tokens else None

    def given(self) -> Tensor:
        """(E,) the choices that fell on each expert since `forget`."""
        return self.tally[:, -1]

    def _instead(self, host: nn.Module, inputs: Tensor) -> Tensor:
        return type(host).forward(host, inputs) if self.still else self(host, inputs)

    def _routed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of each token (N, k) shares that add up to 1, and the experts that they are of."""
        with torch.autocast(x.device.type, enabled=False):  # halves of numbers would choose differently
            probabilities = linear(x.float(), self.router.float()).softmax(-1)
            shares, chosen = probabilities.topk(self.chosen, -1)
            if self.training and torch.is_grad_enabled():
                self._balance(x.detach().float(), probabilities.detach(), chosen)
        return shares / shares.sum(-1, keepdim=True), chosen

    def _balance(self, x: Tensor, probabilities: Tensor, chosen: Tensor) -> None:
        given = torch.bincount(chosen.flatten(), minlength=self.experts)
        load = given / chosen.numel()
        pulled = self.experts * (probabilities * (load - probabilities @ load[:, None])).T @ x
        self.tally = self.tally.to(x.device) + torch.cat([pulled, given[:, None]], 1)

    def _change(self, name: str, expert: int, x: Tensor) -> Tensor:
        return _low_rank(x, self.read[name][expert], self.write[name][expert], self.scale)


def balance(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """aux of N tokens, from the (N, E) probabilities and the (N, k) experts that were chosen."""
    load = torch.bincount(chosen.flatten(), minlength=probabilities.shape[1]) / chosen.numel()
    return probabilities.shape[1] * (load * probabilities.mean(0)).sum()


def sides(model: PreTrainedModel, name: str) -> tuple[int, int]:
    """Width and inner width of the MLP of that name; `model` may lie on the meta device.

    Raises:
        WorkbenchError: it is not made of three matrices called as the usual gated MLP's.
    """
    children = dict(model.get_submodule(name).named_children())
    if not children.keys() >= {GATE, UP, DOWN, "act_fn"}:
        raise _other(model)
    return _sides(model, children[GATE])


def _sides(model: PreTrainedModel, matrix: nn.Module) -> tuple[int, int]:
    """How many numbers a matrix reads and writes."""
    if not isinstance(matrix, nn.Linear):
        raise _other(model)
    return matrix.in_features, matrix.out_features


def _other(model: PreTrainedModel) -> WorkbenchError:
    return WorkbenchError(
        f"The MLPs of this {type(model).__name__} are not the usual gated ones, of which experts are made here: a gate, an activation "
        "function, and two more matrices. Choose another adapter, such as lora."
    )


def _low_rank(x: Tensor, read: Tensor, write: Tensor, scale: float) -> Tensor:
    return scale * linear(linear(x, read.to(x.dtype)), write.to(x.dtype))


def _read(host: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    return host.get_submodule(GATE)(x), host.get_submodule(UP)(x)


def _inner(host: nn.Module, gate: Tensor, up: Tensor) -> Tensor:
    return host.get_submodule("act_fn")(gate) * up
