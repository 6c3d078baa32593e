"""An adapter and its base into one ordinary model of the workspace, which can be merged, compared, tuned on, and taken away.

The model answers as the run does: the base is read as float32, the adapter is folded in (`materials/folding.py`), and each tensor is
rounded once, to the number format that it has in the base's files. What the base's files hold beside it comes along as it is. The model
appears whole or not at all. Unlike a merge (`merge.py`) it takes every kind of adapter, and holds the whole model in memory for it.
"""

import json
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
import yaml
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from workbench.core.beside import foldable, unmergeable
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.workspace import Workspace, named
from workbench.jobs.mergecard import SIDE_FILES
from workbench.materials.family import HEAD, open_member
from workbench.materials.folded import by_file
from workbench.materials.models import ADAPTER, ModelRef, load, resolve, tokenizer
from workbench.materials.tensors import FLOATS, ModelWriter, Planned, read_bytes, to_bytes

RECIPE, MADE_BY = "fold.yaml", "adapter.yaml"


def fold(reference: str, name: str, workspace: Workspace) -> Generator[Progress, None, Path]:
    """Write the adapter `reference` (`run:0001`, `model:NAME`, a folder) and its base as the model `name`; returns its folder.

    Nothing is left of the model when this raises or is closed. Progress counts bytes written.

    Raises:
        WorkbenchError: the name is taken or cannot be one, the reference is no adapter or cannot be folded, or the disk is full.
    """
    target = workspace.model(named(name))
    if target.exists():
        raise WorkbenchError(f"There is a model called {name!r} already. Choose another name, or remove {target}.")
    ref = resolve(reference, workspace)
    if ref.adapter is None:
        raise WorkbenchError(f"{ref.label} is a model already, so nothing is to be folded. Merge, Compare and Train take it as it is.")
    if not foldable(ref.adapter):
        raise WorkbenchError(unmergeable(ref.label))
    yield Progress(0, 0, "reading the base and its adapter")
    model = load(ref, torch.device("cpu"), torch.float32)
    yield from _written(target, reference, ref, model)
    return target


def _written(target: Path, reference: str, ref: ModelRef, model: PreTrainedModel) -> Iterator[Progress]:
    """Write the folded model, its head beside the embeddings where the adapter parted them."""
    folder = _folder(ref)
    base = open_member(ModelRef(ref.path, folder.name, str(folder)))
    tensors = by_file(model, base)
    config = base.config
    if HEAD in tensors and not base.has_head:
        base, config = base.untied(), {**config, "tie_word_embeddings": False}
    plan = [Planned(name, entry.format, entry.shape, entry.size) for name, entry in base.entries.items()]
    done = 0
    with ModelWriter(target, plan) as writer:
        for tensor in plan:
            own = tensor.name in tensors and not base.is_buffer(tensor.name)
            writer.write(tensor.name, _rounded(tensors[tensor.name], tensor, ref) if own else read_bytes(base.entries[tensor.name]))
            done += tensor.size
            yield Progress(done, writer.needed, f"writing {target.name}")
        _write_side_files({"name": target.name, "adapter": reference, "base": ref.path}, ref, folder, writer.partial)
        (writer.partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        writer.commit()


def _folder(ref: ModelRef) -> Path:
    """Where the base's files lie: of a hub id in the cache of transformers, which has fetched them by now."""
    if Path(ref.path).is_dir():
        return Path(ref.path)
    tokenizer(ref)
    return Path(str(cached_file(ref.path, "config.json"))).parent


def _rounded(tensor: Tensor, planned: Planned, ref: ModelRef) -> memoryview:
    rounded = tensor.to(FLOATS[planned.format])
    if not rounded.isfinite().all():
        raise WorkbenchError(
            f"{ref.label} holds NaN, Inf or numbers too large for {planned.format} in {planned.name}. Its training broke: use an adapter "
            "from before that, or train again with a lower learning rate."
        )
    return to_bytes(rounded)


def _write_side_files(recipe: dict[str, str], ref: ModelRef, base: Path, folder: Path) -> None:
    """What makes a folder of weights a model that says where it is from: tokenizer, generation settings, recipe, card."""
    assert ref.adapter is not None
    for name in SIDE_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    made_by = next((path for path in (ref.adapter.parent / "spec.yaml", ref.adapter / "merge.yaml") if path.exists()), None)
    if made_by:
        shutil.copyfile(made_by, folder / MADE_BY)
    kind = json.loads((ref.adapter / ADAPTER[0]).read_text(encoding="utf-8"))["peft_type"]
    (folder / "README.md").write_text(
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n# {recipe['name']}\n\n"
        f"The adapter ({kind}) of {ref.label} folded into its base {ref.path} with Finetune Workbench. The arithmetic is float32; each "
        f"tensor is rounded once, to its number format in the base.\n\n`{RECIPE}` beside this file says of what it was made."
        + (f" `{MADE_BY}` is the spec that the adapter was made by." if made_by else "")
        + "\n",
        encoding="utf-8",
    )
