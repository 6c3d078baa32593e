"""The modules of a model as people name them, once for all blocks that have them alike: `mlp.up_proj`, 352 × 128, in blocks 0 to 5.

Knows the model's shape alone and loads no weights. What it is not: what would move of them (`estimate.py`).
"""

from dataclasses import dataclass

from workbench.core.workspace import Workspace
from workbench.materials.models import LAYER, layer_of, resolve, skeleton


@dataclass(frozen=True)
class Module:
    """`path`: its name inside a block, or in the model where it lies outside; `call`: the shortest end of it that is no other's."""

    path: str
    call: str
    shape: tuple[int, ...]
    blocks: tuple[int, ...]  # none where it lies outside


def modules(reference: str, workspace: Workspace) -> list[Module]:
    """In the model's own order; a bias is not told apart.

    Raises:
        WorkbenchError: there is no such model.
    """
    blocks = dict[tuple[str, tuple[int, ...]], list[int]]()
    for name, parameter in skeleton(resolve(reference, workspace).path).named_parameters():
        if name.endswith(".weight"):
            layer = layer_of(name)
            own = blocks.setdefault((LAYER.sub("", name).removesuffix(".weight"), tuple(parameter.shape)), [])
            own += [] if layer is None else [layer]
    calls = _calls({path for path, _ in blocks})
    return [Module(path, calls[path], shape, tuple(layers)) for (path, shape), layers in blocks.items()]


def _calls(paths: set[str]) -> dict[str, str]:
    """The shortest end of each path, in whole words, with which no other ends."""
    found = {}
    for path in paths:
        words = path.split(".")
        ends = (".".join(words[-count:]) for count in range(1, len(words) + 1))
        found[path] = next(end for end in ends if end == path or sum(f".{other}".endswith(f".{end}") for other in paths) == 1)
    return found
