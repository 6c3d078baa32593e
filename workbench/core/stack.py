"""Stacked layers: which layer of the models each layer of the result is made of, and which models take part in it.

Pure counting: no model is opened here and no tensor touched (`materials/stack.py`). What stands outside the layers is merged of all
models of the spec. A method that takes fewer than that has it from the ends instead, which is mergekit's rule for all [R]: embeddings
from the models of the first slice, final norm and head from those of the last.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from workbench.core.parts import Slice
from workbench.core.varied import AFTER_BLOCKS

_WORDS = re.compile(r"(?:(?P<models>\S.*?)\s+)?(?P<first>\d+)\s*-\s*(?P<stop>\d+)")


def from_text(given: Any) -> Any:
    """`run:0001 0-4, run:0001+run:0002 2-6` as slices, the second number one after the last layer; what is no text stays as it is."""
    return [_from_words(words.strip()) for words in given.split(",") if words.strip()] if isinstance(given, str) else given


def _from_words(words: str) -> dict[str, Any]:
    found = _WORDS.fullmatch(words)
    if found is None:
        raise ValueError(
            f"{words!r} is no slice; write the models and their layers, for example: run:0001 0-4, run:0002 2-6 (0-4 is the layers 0 to 3; "
            "without a model it is of all of them)"
        )
    names = [name.strip() for name in (found["models"] or "").split("+") if name.strip()]
    return {"layers": [int(found["first"]), int(found["stop"])], "models": names}


Stack = Annotated[list[Slice], BeforeValidator(from_text)]
"""Slices as a list, or in one line of text."""


@dataclass(frozen=True)
class Layout:
    """A stack, counted out. Models are named by their places in the spec; the base's place is the one after the last.

    `sources` and `slices` say of each layer of the result which layer of the models it is made of and in which slice it stands;
    `takers` of each slice who takes part; `before` and `behind` who does outside the layers.
    """

    sources: tuple[int, ...]
    slices: tuple[int, ...]
    takers: tuple[tuple[int, ...], ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]

    def at(self, name: str, layer: int | None) -> tuple[int, ...]:
        """Who takes part in the tensor `name` of the result."""
        if layer is None:
            return self.behind if AFTER_BLOCKS.search(name) else self.before
        return self.takers[self.slices[layer]]

    @property
    def plain(self) -> bool:
        """Whether all is as mergekit has it: outside the layers the models of the first slice, and of the last."""
        return (self.before, self.behind) == (self.takers[0], self.takers[-1])


def laid_out(stack: Sequence[Slice], base: str, models: Sequence[str], most: int) -> Layout:
    """The layout of a stack without mistakes; `most` is how many models the method takes."""
    sources = tuple(layer for given in stack for layer in range(*given.layers))
    slices = tuple(number for number, given in enumerate(stack) for _ in range(*given.layers))
    takers = tuple(_takers(given, base, models) for given in stack)
    everyone = tuple(range(len(models)))
    ends = len({*everyone, *(place for some in takers for place in some)}) > most
    return Layout(sources, slices, takers, takers[0] if ends else everyone, takers[-1] if ends else everyone)


def mistakes(stack: Sequence[Slice], base: str, models: Sequence[str]) -> Iterator[str]:
    """What is wrong with a stack before any model is opened, a sentence each."""
    for number, given in enumerate(stack):
        first, stop = given.layers
        if first < 0:
            yield f"stack.{number}: layers [{first}, {stop}] begin below 0, which is the first layer"
        elif stop <= first:
            words = "run backwards" if stop < first else "hold no layer"
            yield f"stack.{number}: layers [{first}, {stop}] {words}; write the first layer and the one after the last, for example [0, 4]"
        for name in dict.fromkeys(given.models):
            if name not in (base, *models):
                yield f"stack.{number}: {name!r} is not one of the models; there are: {', '.join(dict.fromkeys([*models, base]))}"
            elif given.models.count(name) > 1:
                yield f"stack.{number}: {name!r} is named {given.models.count(name)} times; name it once"


def beyond(stack: Sequence[Slice], layers: int, label: str) -> Iterator[str]:
    """Which slices reach for layers that the models, with so many of them, do not have."""
    for number, given in enumerate(stack):
        if given.layers[1] > layers:
            yield (
                f"stack.{number}: layers {list(given.layers)} go beyond the {layers} layers of the base {label}. End it at {layers} at the "
                "latest."
            )


def _takers(given: Slice, base: str, models: Sequence[str]) -> tuple[int, ...]:
    """In the order in which the slice names them; a model that the spec names twice takes part twice."""
    if not given.models:
        return tuple(range(len(models)))
    known = [*models, base] if base not in models else models
    return tuple(place for name in given.models for place, model in enumerate(known) if model == name)
