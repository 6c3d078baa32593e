"""What texts hold of other texts: how many of an item's groups of words stand in a text too, and of which item the most.

Of an item with fewer words than a group has the whole is looked for. Groups that many items share are their template and say nothing
of any of them. Tags as in the project's notes: [P] paper, [O] our choice.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.materials.corpus import digest
from workbench.materials.grams import Batch, batches, groups, words
from workbench.materials.rows import Example

LEAST = 5  # words of an item below which it is not looked for: "what is it" stands everywhere [O]


@dataclass(frozen=True)
class Found:
    """Texts of a batch that hold something of an item, each with the item of which it holds the largest share; or items of which a text of
    the batch holds something, each with the text that holds the largest share."""

    text: Tensor  # (H,) int64: number of the text among all
    item: Tensor  # (H,) int64: number of the item
    share: Tensor  # (H,) float64: of the item's own groups
    place: Tensor  # (H,) int64: where in the batch's words the first of those groups begins
    length: Tensor  # (H,) int64: of how many words it is


@dataclass(frozen=True)
class Items:
    """The groups of all items in ascending order, and which items have each: those from `edges[g]` to `edges[g + 1]` of `item`."""

    held: Tensor  # (G,) int64
    edges: Tensor  # (G + 1,) int64
    item: Tensor  # (P,) int64
    own: Tensor  # (I,) int64: how many groups each item has
    lengths: frozenset[int]  # of the groups that there are, in words

    def found(self, batch: Batch) -> Found:
        """Which texts of the batch hold something; of items of which a text holds the same share, the first."""
        return self._best(batch, by_text=True)

    def held_by(self, batch: Batch) -> Found:
        """Of which items a text of the batch holds something; of texts that hold the same share of an item, the first."""
        return self._best(batch, by_text=False)

    def touched(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(H,) texts, by their number among all, and (H,) items: each two of which a group of the item stands in the text."""
        text, item, *_ = self._hits(batch)
        return text + batch.first, item

    def _best(self, batch: Batch, by_text: bool) -> Found:
        text, item, place, length = self._hits(batch)
        key, inverse, hits = (text * len(self.own) + item).unique(return_inverse=True, return_counts=True)
        first = torch.full_like(key, len(batch.words)).scatter_reduce(0, inverse, place, "amin")
        long = torch.zeros_like(key).scatter_reduce(0, inverse, length, "amax")  # an item has groups of one length
        text, item = key.div(max(1, len(self.own)), rounding_mode="floor"), key % max(1, len(self.own))
        share, of = hits / self.own[item].double(), text if by_text else item
        order = share.argsort(descending=True, stable=True)
        order = order[of[order].argsort(stable=True)]
        order = order[torch.cat([torch.ones(min(1, len(order)), dtype=torch.bool), of[order][1:] != of[order][:-1]])]
        return Found(text[order] + batch.first, item[order], share[order], first[order], long[order])

    def _hits(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(text, item, place, length) of each group of an item that stands in a text; of those that stand there twice, the first."""
        texts, entries, places, long = ([torch.empty(0, dtype=torch.int64)] for _ in range(4))
        for length, hashes, place in groups(batch, self.lengths) if len(self.held) else ():
            at = torch.searchsorted(self.held, hashes).clamp(max=len(self.held) - 1)
            hit = self.held[at] == hashes
            texts.append(batch.text[place[hit]])
            entries.append(at[hit])
            places.append(place[hit])
            long.append(torch.full_like(at[hit], length))
        text, entry, where, length = (torch.cat(parts) for parts in (texts, entries, places, long))
        key = text * (len(self.held) + 1) + entry
        order = key.argsort(stable=True)
        order = order[torch.cat([torch.ones(min(1, len(order)), dtype=torch.bool), key[order][1:] != key[order][:-1]])]
        first, many = self.edges[entry[order]], self.edges[entry[order] + 1] - self.edges[entry[order]]
        step = torch.arange(int(many.sum())) - (many.cumsum(0) - many).repeat_interleave(many)
        item = self.item[first.repeat_interleave(many) + step]
        return text[order].repeat_interleave(many), item, where[order].repeat_interleave(many), length[order].repeat_interleave(many)


def items(texts: Iterable[str], total: int, size: int, common: int) -> Generator[Progress, None, Items]:
    """What is looked for of the I texts, of which there are `total`: groups of `size` words, or the whole of `LEAST` words and more.

    Of items that say the same the first stands for all. A group that more than `common` items have is looked for in none, and of three
    items and more one that more than a third of them have: few rows with one template would else never be many enough to show it [O].
    """
    seen, hashes, which, found = set[int](), [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)], 0

    def fresh(text: str) -> list[str]:
        said = words(text)
        known = len(seen)
        seen.add(digest(" ".join(said)))
        return said if len(seen) > known else []

    lengths = set[int]()
    for batch in batches(texts, fresh):
        long = batch.lengths()
        for length, group, place in groups(batch, range(min(LEAST, size), size + 1)):
            text = batch.text[place]
            whole = (long[text] == length) | (length == size)
            hashes.append(group[whole])
            which.append(text[whole] + batch.first)
            lengths |= {length} if bool(whole.any()) else set()
        found = batch.first + batch.count
        yield Progress(found, total, "rows looked for")
    return _sorted(torch.cat(hashes), torch.cat(which), found, common, frozenset(lengths))


def _sorted(hashes: Tensor, which: Tensor, total: int, common: int, lengths: frozenset[int]) -> Items:
    order = which.argsort(stable=True)
    order = order[hashes[order].argsort(stable=True)]
    group, item = hashes[order], which[order]
    again = (group[1:] == group[:-1]) & (item[1:] == item[:-1])
    once = torch.cat([torch.ones(min(1, len(group)), dtype=torch.bool), ~again])
    group, item = group[once], item[once]
    held, many = group.unique_consecutive(return_counts=True)
    rare = many <= _most(common, len(item.unique()))
    item = item[rare.repeat_interleave(many)]
    edges = torch.cat([torch.zeros(1, dtype=torch.int64), many[rare].cumsum(0)])
    return Items(held[rare], edges, item, torch.bincount(item, minlength=total), lengths)


def _most(common: int, count: int) -> int:
    return min(common, max(1, count // 3)) if count >= 3 else common


def part_of(example: Example, part: Literal["row", "question", "answer"]) -> str:
    """That part of a row; of the whole row what is said alone, without the names of who says it."""
    return said(example) if part == "row" else example.part(part)


def said(example: Example) -> str:
    """All that a row says, without the names of who says it."""
    return example.text or "\n".join(str(message.get("content") or "") for message in example.messages)


def asked(example: Example, part: Literal["row", "question", "answer"]) -> str:
    """The part of a row that must not be found elsewhere; of a row that has no such part, all that it says.

    A question is what the user says: a system turn is often the same in all rows, and asks nothing.
    """
    if part == "question" and not example.text:
        return "\n".join(str(turn.get("content") or "") for turn in example.messages if turn["role"] == "user") or said(example)
    return part_of(example, part) or said(example)


def need_text(target: Iterable[Example], part: Literal["row", "question", "answer"]) -> None:
    """Raises `WorkbenchError` where no row of a target has any text in the part that is compared: all would be alike."""
    if not any(part_of(row, part).strip() for row in target):
        where = "" if part == "row" else f" in its {part}"
        raise WorkbenchError(
            f"No row of the target has any text{where}, so there is nothing to go by. Compare another part of the rows, or name another "
            "target."
        )
