"""Rows of tokens into tensors: padded side by side, or several short rows packed into one sequence.

What it is: the shapes that a forward pass eats. What it is not: it knows no text and no order of training.

Packing is exact only under three conditions, which `packed` and its caller keep together: `position_ids` begin anew at
each row, there is no `attention_mask`, and the model is called with `use_cache=False`. transformers then keeps the rows
apart by itself (its masking code looks at the positions); under any other call they see one another silently.
"""

import bisect
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.templates import Encoded

IGNORED = -100  # the label of a token that is not learnt


def pad(rows: Sequence[Encoded], pad_id: int) -> dict[str, Tensor]:
    """B rows as (B, T) int64 `input_ids`, `attention_mask` and `labels` (not shifted), filled up on the right.

    A label is the token itself where it is learnt and −100 elsewhere.
    """
    longest = max(len(row.ids) for row in rows)
    gaps = [longest - len(row.ids) for row in rows]
    return {
        "input_ids": torch.tensor([row.ids + [pad_id] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * len(row.ids) + [0] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "labels": torch.tensor([_labels(row) + [IGNORED] * gap for row, gap in zip(rows, gaps, strict=True)]),
    }


def pack(rows: Sequence[Encoded], length: int) -> list[list[int]]:
    """Groups of row indices with at most `length` tokens each: best-fit decreasing (arXiv:2404.10830).

    Rows are taken from the longest to the shortest; each goes into the fullest group that still holds it, and equal ones
    stay in order. At most 11/9 of the fewest groups possible, in practice within a percent of it.

    Raises:
        WorkbenchError: a row is longer than `length`; rows are cut by `encode`, never silently here.
    """
    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index].ids), index))
    if order and len(rows[order[0]].ids) > length:
        raise WorkbenchError(f"A row has {len(rows[order[0]].ids)} tokens, but a pack holds {length}. Cut the rows to that length first.")
    groups: list[list[int]] = []
    with_room: dict[int, list[int]] = {}  # tokens of room → groups that have it
    rooms: list[int] = []  # the different rooms, ascending
    for index in order:
        size = len(rows[index].ids)
        place = bisect.bisect_left(rooms, size)
        room = rooms[place] if place < len(rooms) else length
        if place < len(rooms):
            group = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        else:
            group = len(groups)
            groups.append([])
        groups[group].append(index)
        left = room - size
        if left not in with_room:
            bisect.insort(rooms, left)
        with_room.setdefault(left, []).append(group)
    return groups


def packed(rows: Sequence[Encoded], groups: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """B groups as (B, T) int64 `input_ids`, `position_ids` and `labels`; call the model with `use_cache=False`.

    Positions begin at 0 with each row, the first label of each row is −100 (no row predicts the next), and what fills a
    short group up is a row of its own that is not learnt. There is no `attention_mask`, on purpose.
    """
    sequences = [[_segment(rows[index]) for index in group] for group in groups]
    longest = max(sum(len(ids) for ids, _ in sequence) for sequence in sequences)
    for sequence in sequences:
        gap = longest - sum(len(ids) for ids, _ in sequence)
        sequence.append(([0] * gap, [IGNORED] * gap))
    return {
        "input_ids": torch.tensor([[token for ids, _ in sequence for token in ids] for sequence in sequences]),
        "position_ids": torch.tensor([[place for ids, _ in sequence for place in range(len(ids))] for sequence in sequences]),
        "labels": torch.tensor([[label for _, labels in sequence for label in labels] for sequence in sequences]),
    }


def _labels(row: Encoded) -> list[int]:
    return [token if trained else IGNORED for token, trained in zip(row.ids, row.trained, strict=True)]


def _segment(row: Encoded) -> tuple[list[int], list[int]]:
    return row.ids, [IGNORED, *_labels(row)[1:]]
