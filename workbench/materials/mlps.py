"""The MLPs of a decoder as matrices by name: which of them read, which one writes, and which rows and columns are a neuron's.

What it is: the finding of these, for the adapters that move neurons or what an MLP adds to a token. What it is not: mixtures of experts,
whose matrices each see some of the tokens only; they are refused.
"""

from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.materials import low_rank
from workbench.materials.models import layer_of
from workbench.materials.modules import MLP, kind_of, writes


@dataclass(frozen=True)
class Mlp:
    """Module names in one block. `gate` is what the activation function is applied to; `up` the others that read."""

    gate: str
    up: tuple[str, ...]
    down: str
    neurons: int


def mlps(model: PreTrainedModel) -> list[Mlp]:
    """The MLP of each block.

    Raises:
        WorkbenchError: a block has none, or more than one, as where experts share the work.
    """
    reading: list[list[str]] = [[] for _ in range(model.config.num_hidden_layers)]
    writing: list[list[str]] = [[] for _ in reading]
    for name, _ in low_rank.matrices(model, "all linear"):
        layer = layer_of(f"{name}.")
        if layer is not None and kind_of(f"{name}.weight") == MLP:
            (writing if writes(f"{name}.weight") else reading)[layer].append(name)
    if not all(_one(up, down) for up, down in zip(reading, writing, strict=True)):
        raise WorkbenchError(
            f"The blocks of this {type(model).__name__} do not have one MLP each, of matrices that read and one that writes. Mixtures of "
            "experts are like that. Choose an adapter that does not go by neurons, such as lift or lora."
        )
    return [_mlp(model, up, down) for up, (down,) in zip(reading, writing, strict=True)]


def outputs_along(model: PreTrainedModel, name: str) -> int:
    """The axis of a matrix's weight along which its outputs lie; transformers' Conv1D is stored the other way round."""
    return int(isinstance(model.get_submodule(name), Conv1D))


def _one(reading: list[str], writing: list[str]) -> bool:
    """Whether these matrices are one MLP: side by side, and a single one writes."""
    return len(writing) == 1 and bool(reading) and len({name.rpartition(".")[0] for name in (*reading, *writing)}) == 1


def _mlp(model: PreTrainedModel, reading: list[str], down: str) -> Mlp:
    gate = next((name for name in reading if "gate" in name.rpartition(".")[2] or name.endswith(".w1")), reading[0])
    up = tuple(name for name in reading if name != gate)
    return Mlp(gate, up, down, model.get_parameter(f"{down}.weight").shape[1 - outputs_along(model, down)])
