"""Several who speak at once: those who belong to one choir are read in one batch, a row each, one cache for all of them.

What it is not: the weights of each row (`choir.py`), or whose turn it is (`jobs/compare.py`). Texts of different lengths are filled up on
the left; positions count what is read and not what fills up.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workbench.materials.choir import Choir, together
from workbench.materials.roomy import RoomyCache
from workbench.materials.speakers import Singer
from workbench.materials.voice import Speaker


class Company:
    """Speakers of any kind. What is heard together costs little more than one of them; who is of no choir reads when asked."""

    def __init__(self) -> None:
        self.choruses: dict[Choir, Chorus] = {}

    def hear(self, texts: Mapping[Speaker, Sequence[int]]) -> None:
        """Each will be asked what comes after its text."""
        groups: dict[Choir, dict[Singer, Sequence[int]]] = {}
        for speaker, text in texts.items():
            if isinstance(speaker, Singer):
                groups.setdefault(speaker.choir, {})[speaker] = text
        for choir, group in groups.items():
            if choir not in self.choruses:
                self.choruses[choir] = Chorus(choir)
            self.choruses[choir].hear(group)


class Chorus:
    """Rows of a batch. Who is not asked any more is let go, and costs nothing from then on."""

    def __init__(self, choir: Choir):
        self.choir = choir
        self.rows: list[Singer] = []
        self.heard: list[list[int]] = []

    def hear(self, texts: Mapping[Singer, Sequence[int]]) -> None:
        """Each singer now knows what comes after its text; where all texts go on from the last ones, only what is new is read."""
        stay = [row for row, singer in enumerate(self.rows) if singer in texts]
        ahead = [(self.heard[row], list(texts[self.rows[row]])) for row in stay]
        new = [text[len(heard) :] for heard, text in ahead]
        goes_on = len(stay) == len(texts) and all(text[: len(heard)] == heard for heard, text in ahead) and len({*map(len, new)}) == 1
        if not texts or (goes_on and not new[0]):
            return
        if goes_on:
            self._let_go(stay)
        said = self._read(new) if goes_on else self._begin(texts)
        self.heard = [list(texts[singer]) for singer in self.rows]
        for row, singer in enumerate(self.rows):
            singer.told = self.heard[row], said[row]

    def _begin(self, texts: Mapping[Singer, Sequence[int]]) -> Tensor:
        """Read all from the start; what several of one part are to hear is read once."""
        self.rows = sorted(texts, key=lambda singer: together(singer.part))
        keys = [(id(singer.part), *texts[singer]) for singer in self.rows]
        first = {key: row for row, key in reversed([*enumerate(keys)])}
        once = sorted(first.values())
        new = [list(texts[self.rows[row]]) for row in once]
        self.padded, self.cache = len({*map(len, new)}) > 1, RoomyCache()
        self.mask = torch.zeros(len(new), 0, dtype=torch.long, device=self.choir.model.device)
        self.seating = self.choir.seats([self.rows[row].part for row in once])
        said, places = self._read(new), [once.index(first[key]) for key in keys]
        self._take(places)
        return said[places]

    def _let_go(self, stay: list[int]) -> None:
        if len(stay) < len(self.rows):
            self.rows = [self.rows[row] for row in stay]
            self._take(stay)

    def _take(self, places: list[int]) -> None:
        """Rows of what was read become the rows of the batch."""
        if places != [*range(len(self.mask))]:
            index = torch.tensor(places, device=self.mask.device)
            self.cache.batch_select_indices(index)
            self.mask = self.mask[index]
        self.seating = self.choir.seats([singer.part for singer in self.rows])

    def _read(self, new: list[list[int]]) -> Tensor:
        """(rows, V) next-token logits, float32."""
        longest, device = max(map(len, new)), self.mask.device
        ids = torch.tensor([[0] * (longest - len(text)) + text for text in new], device=device)
        filled = {}
        if self.padded:
            shown = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in new], device=device)
            self.mask = torch.cat([self.mask, shown], 1)
            filled = {"attention_mask": self.mask, "position_ids": (self.mask.cumsum(1) - 1)[:, -longest:].clamp(min=0)}
        self.choir.seating = self.seating
        out = self.choir.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **filled)
        return out.logits[:, -1].float()
