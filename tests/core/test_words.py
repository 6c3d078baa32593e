"""Numbers as a person reads them, by example."""

from workbench.core.words import count, duration, number, size


def test_numbers_are_in_words() -> None:
    assert [count(1, "row"), count(1200, "row"), count(2, "entry", "entries")] == ["1 row", "1,200 rows", "2 entries"]
    assert [number(0.0123456), number(331_776), number(float("nan"))] == ["0.0123", "332,000", "not a number"]
    assert [size(900), size(3.14159e6), size(2e9), size(1.5e12)] == ["900 bytes", "3.14 MB", "2 GB", "1.5 TB"]
    assert [duration(0.2), duration(42), duration(185), duration(7800)] == ["less than a second", "42 s", "3 min 5 s", "2 h 10 min"]
