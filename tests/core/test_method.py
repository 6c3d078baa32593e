"""A knob is said once: what is read from it, and how methods find their way into the registry."""

from typing import Literal

import pytest
from pydantic import BaseModel

from workbench.core.errors import WorkbenchError
from workbench.core.method import SHELVES, as_number, find, knob, knobs_of, shelf


class Sample(BaseModel):
    """A form with one knob of each kind."""

    share: float = knob(0.5, ge=0, le=1, help="a share", step=0.1)
    width: int = knob(8, gt=0, help="a width", unit="tokens", log=True, more=True)
    mode: Literal["a", "b"] = knob("a", help="a choice")
    on: bool = knob(True, help="a switch")
    said: str = knob("", help="a text", label="what is said")
    hidden: int = 3


def test_a_knob_is_read_from_its_field() -> None:
    share, width, mode, on, said = knobs_of(Sample)
    assert (share.kind, share.lo, share.hi, share.default, share.step, share.range) == ("float", 0, 1, 0.5, 0.1, "0 to 1")
    assert (width.kind, width.lo, width.hi, width.unit, width.log, width.more, width.range) == (
        "int", 0, None, "tokens", True, True, "at least 0",
    )  # fmt: skip
    assert (mode.kind, mode.choices, mode.range) == ("choice", ("a", "b"), "one of a, b")
    assert (on.kind, on.default, said.label, said.kind) == ("bool", True, "what is said", "text")


def test_a_knob_of_another_type_is_refused() -> None:
    class Wrong(BaseModel):
        things: dict[str, int] = knob({}, help="a mapping")

    with pytest.raises(TypeError, match="things"):
        knobs_of(Wrong)


def test_the_registry_lists_what_there_is() -> None:
    assert {"lora", "full"} <= set(shelf("adapters"))
    assert list(shelf("adapters")) == sorted(SHELVES["adapters"])
    with pytest.raises(WorkbenchError, match=r"no adapter called 'loar'; there are: .*cola, .*full, .*lora"):
        find("adapters", "loar")
    with pytest.raises(WorkbenchError, match="no loss called"):
        find("losses", "nothing")


def test_two_methods_in_one_file_are_refused() -> None:
    before = dict(SHELVES["losses"])
    base = next(iter(before.values())).__mro__[1]
    try:
        type("One", (base,), {"__module__": "somewhere.twice", "__doc__": "x"})
        with pytest.raises(TypeError, match="one paper, one file"):
            type("Two", (base,), {"__module__": "somewhere.twice", "__doc__": "x"})
    finally:
        SHELVES["losses"].clear()
        SHELVES["losses"].update(before)


@pytest.mark.parametrize("text, value", [("3e-4", 3e-4), (" 0.01 ", 0.01), ("-2", -2.0)])
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "1,5"])
def test_what_is_no_number_says_what_is_expected(text: str) -> None:
    with pytest.raises(WorkbenchError, match="write it like"):
        as_number(text)
