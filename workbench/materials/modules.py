"""What the modules of a decoder are for, told from their names: attention or MLP, reading or writing, norms, embeddings.

What it is: the sorting that every choice of whole modules goes by. What it is not: the choice (`methods/adapters/`), or a list of models:
the names are those of the families in transformers, and a module of an unknown name is `other`.
"""

import fnmatch
from collections.abc import Iterable

from transformers import PreTrainedModel

from workbench.core.errors import WorkbenchError
from workbench.materials.models import layer_of

READS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv")
WRITES = ("o_proj", "out_proj", "dense", "attention_output")
GATES = ("gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "dense_h_to_4h", "w1", "w3")
DOWNS = ("down_proj", "fc2", "fc_out", "dense_4h_to_h", "w2")
ATTENTION, MLP, NORM, OUTSIDE, OTHER = "attention", "mlp", "norm", "outside the blocks", "other"


def module_of(name: str) -> str:
    """`model.layers.3.mlp.up_proj.weight` → `model.layers.3.mlp.up_proj`."""
    return name.rpartition(".")[0]


def kind_of(name: str) -> str:
    """Of a parameter's name: `attention`, `mlp`, `norm`, `outside the blocks`, or `other` (a router, a mixer)."""
    if layer_of(name) is None:
        return OUTSIDE
    path = module_of(name)
    last = path.rpartition(".")[2]
    if is_norm(name):
        return NORM
    if last in ("router", "gate") or (".mixer." in path and last not in READS):  # which expert is asked; state spaces
        return OTHER
    if last in READS or last in WRITES or ".attn." in path or "attention." in path or "self_attn." in path:
        return ATTENTION
    return MLP if last in GATES or last in DOWNS or ".mlp." in path else OTHER


def is_norm(name: str) -> bool:
    """Whether a parameter belongs to a norm, inside the blocks or behind them (`model.norm`, `transformer.ln_f`)."""
    last = module_of(name).rpartition(".")[2]
    return "norm" in last.lower() or last.startswith("ln_")


def writes(name: str) -> bool:
    """Whether a parameter belongs to what a block's attention or MLP ends with."""
    return module_of(name).rpartition(".")[2] in (*WRITES, *DOWNS, "c_proj")


def outside(model: PreTrainedModel) -> set[str]:
    """The parameters outside the blocks: embeddings, the last norm, the head."""
    return {name for name, _ in model.named_parameters() if layer_of(name) is None}


def named_so(model: PreTrainedModel, patterns: Iterable[str]) -> set[str]:
    """The parameters of the modules whose name, or its end, is one of the patterns, in which * stands for anything.

    Raises:
        WorkbenchError: a pattern that no module has.
    """
    names = [name for name, _ in model.named_parameters()]
    found = set[str]()
    for pattern in patterns:
        own = {name for name in names if any(fnmatch.fnmatchcase(module_of(name), head + pattern) for head in ("", "*."))}
        if not own:
            some = ", ".join(sorted({module_of(name).rpartition(".")[2] for name in names}))
            raise WorkbenchError(
                f"No module of this {type(model).__name__} is called {pattern!r}. Its modules end with {some}; write one of them, or a "
                "longer name such as layers.0.mlp.*, in which * stands for anything."
            )
        found |= own
    return found
