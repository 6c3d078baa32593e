"""Numbers and times in the words a person reads: three significant digits, units spelt beside the number."""

import math


def number(value: float) -> str:
    """Three significant digits: `1.42`, `0.000312`, `18,300`; what is no number says so."""
    if not math.isfinite(value):
        return "not a number"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def count(value: int, one: str, many: str = "") -> str:
    """`1 row`, `812 rows`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`less than a second`, `40 s`, `1 min 12 s`, `2 h 5 min`."""
    whole = max(0, round(seconds))
    if seconds < 1:
        return "less than a second"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count_of_bytes: float) -> str:
    """`512 kB`, `3.1 GB`, in powers of 1,000."""
    for power, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_of_bytes >= power:
            return f"{count_of_bytes / power:.3g} {unit}"
    return f"{count_of_bytes:.0f} bytes"
