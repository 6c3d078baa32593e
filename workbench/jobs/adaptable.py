"""Why a merge cannot be written as one LoRA adapter, or cannot be made of these models because it merges adapters alone.

Asked when the models are open and nothing is written yet. What it is not: what forbids any merge of these models (`jobs/ingredients.py`),
or the writing (`jobs/adapting.py`). Knows no merge by name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch

from workbench.core.additive import Additive
from workbench.core.spec import MergeSpec
from workbench.materials.family import Member
from workbench.materials.models import ModelRef
from workbench.materials.tensors import read_rows, spans
from workbench.methods.contracts import Merge


def unfit(spec: MergeSpec, refs: Sequence[ModelRef], members: Sequence[Member]) -> Iterator[str]:
    """A sentence for each mistake. `refs` and `members`: the base and the tuned models, in the order of the spec."""
    if cast(Merge, spec.merge).whole:
        yield (
            f"{spec.merge.title()} merges whole models and may change their widths, so no adapter on the base can hold what it makes. "
            "Set save to model."
        )
    if refs[0].adapter is not None:
        yield (
            f"base: {refs[0].label} is an adapter itself, and an adapter is written for a plain model. Name the model that it stands on, "
            "or merge it into one first (save: model)."
        )
    for number, (ref, member) in enumerate(zip(refs[1:], members[1:], strict=True)):
        yield from (f"models.{number}: {sentence}" for sentence in _alone(ref, member, refs[0], members[0]))
    if not matrices(members[1:]) and all(ref.adapter for ref in refs[1:]):
        yield "models: none of the adapters changes a matrix, so there is nothing to merge."
    yield from _factors(spec, members[1:]) if spec.of == "factors" else _changes(spec, members[1:])


def unfactored(spec: MergeSpec, base: Member, tuned: Sequence[Member]) -> Iterator[str]:
    """A sentence for each mistake of a merge that is asked with factors, however it is saved; nothing for any other merge."""
    method = cast(Merge, spec.merge)
    if not method.factored:
        return
    if base.lora.touched:
        yield (
            f"base: {base.label} is an adapter itself, and {method.title()} merges the adapters of a plain model. Name the model that it "
            "stands on, or merge it into one first."
        )
    for number, member in enumerate(tuned):
        yield from (f"models.{number}: {sentence}" for sentence in _no_adapter(method.title(), member, base))
    if spec.of == "factors":
        yield f"of: factors gives A and B to a method apart, and {method.title()} goes by the changes B·A. Set of to changes."


def _no_adapter(title: str, member: Member, base: Member) -> Iterator[str]:
    """Why the model is no LoRA adapter of the base."""
    remedy = "Leave it out, or choose another method."
    if not member.lora.touched:
        yield f"{member.label} is a whole model or changes nothing, and {title} merges LoRA adapters alone. {remedy}"
    elif _folder(member) != _folder(base):
        yield f"{member.label} stands on {_folder(member)}, and the base of this merge is {_folder(base)}. Merge only adapters of one base."
    replaced = _replaced(member, base)
    if replaced:
        yield f"{member.label} replaces whole tensors too ({replaced}), and {title} merges low-rank changes alone. {remedy}"


def _folder(member: Member) -> Path:
    return next(iter(member.entries.values())).file.parent.resolve()


def matrices(tuned: Sequence[Member]) -> list[str]:
    """The tensors that at least one of the adapters changes."""
    return list(dict.fromkeys(name for member in tuned for name in member.lora.factors))


def _alone(ref: ModelRef, member: Member, base: ModelRef, below: Member) -> Iterator[str]:
    if ref.adapter is None:
        yield f"{ref.label} is a whole model, and only LoRA adapters become one adapter. Set save to model, or leave it out."
    elif Path(ref.path).resolve() != Path(base.path).resolve():
        yield f"{ref.label} stands on {ref.path}, and the base of this merge is {base.path}. Merge only adapters of one base."
    if member.single:
        yield f"{ref.label} changes single numbers, which no low-rank adapter holds. Set save to model."
    replaced = _replaced(member, below)
    if replaced:
        yield (
            f"{ref.label} replaces whole tensors too ({replaced}; modules_to_save or biases), which no low-rank adapter can hold. "
            "Set save to model."
        )


def _replaced(member: Member, base: Member) -> str:
    """The tensors that the adapter puts others in place of, in words; empty for none."""
    first, *others = [
        name for name in sorted(member.lora.replaced) if name not in member.lora.factors or not _same(name, member, base)
    ] or [""]
    return f"{first} and {len(others)} more" if others else first


def _same(name: str, member: Member, base: Member) -> bool:
    """Whether a tensor that lies beside its factors is only the base's own, of which peft keeps a copy if it is the head."""
    of, own = base.entries[name], member.lora.replaced[name]
    return all(torch.equal(read_rows(own, *rows), read_rows(of, *rows)) for rows in spans(of.shape))


def _factors(spec: MergeSpec, tuned: Sequence[Member]) -> Iterator[str]:
    if cast(Merge, spec.merge).across():
        yield (
            f"{spec.merge.title()} ranks the numbers of the whole model at once, and with of: factors it sees one A or B at a time. "
            "Let it rank those of each tensor, if it has a knob for that, or set of to changes."
        )
    unlike = [name for name in matrices(tuned) if len({rank for _, rank in _ranks(name, tuned)}) > 1]
    if unlike:
        told = ", ".join(f"{rank} in {label}" for label, rank in _ranks(unlike[0], tuned))
        yield (
            f"of: factors needs equal ranks, and {len(unlike)} matrices have others, first {unlike[0]}: {told}. "
            "Set of to changes, which takes any ranks."
        )


def _changes(spec: MergeSpec, tuned: Sequence[Member]) -> Iterator[str]:
    if spec.rank or cast(Merge, spec.merge).whole:
        return
    places = [(name, depth) for name in ("", *matrices(tuned)) for depth in (None, 0.0, 1.0)]
    methods = (spec.at(*place)[0] for place in places)
    if not all(isinstance(method, Additive) and method.adds() for method in methods):
        largest = max((rank for name in matrices(tuned) for _, rank in _ranks(name, tuned)), default=16)
        yield (
            f"rank: {spec.merge.title()} does not only add the adapters' changes up, so what it makes of them has full rank and no adapter "
            f"holds it exactly. Set rank to the directions that are to be kept; the largest of these adapters has {largest}."
        )


def _ranks(name: str, tuned: Sequence[Member]) -> list[tuple[str, int]]:
    """(label, rank of this matrix) of each adapter that changes it; two folders may have one label."""
    return [(member.label, member.lora.factors[name].right.shape[0]) for member in tuned if name in member.lora.factors]
