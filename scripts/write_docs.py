"""Rewrite the parts of the docs that come from the code: the methods table of the README, between its markers.

    python scripts/write_docs.py

`tests/test_docs.py` holds the README to it.
"""

import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "kernels")]
from workbench.core.method import SHELVES, discover, knobs_of

ROOT = Path(__file__).parents[1]


def methods_table() -> str:
    """Every registered method: shelf, title, knobs, paper."""
    discover()
    lines = ["| shelf | method | knobs | paper |", "|---|---|---|---|"]
    for shelf in SHELVES:
        for name, method in sorted(SHELVES[shelf].items()):
            knobs = ", ".join(f"`{knob.name}`" for knob in knobs_of(method)) or "–"
            paper = f"[{method.paper}]({method.link()})" if method.paper else "–"
            lines.append(f"| {shelf} | {method.title()} (`{name}`) | {knobs} | {paper} |")
    return "\n".join(lines)


def put(text: str, marker: str, content: str) -> str:
    """`text` with `content` between the marker's two comments."""
    pattern = rf"(<!-- {marker} -->\n).*?(\n<!-- /{marker} -->)"
    found, count = re.subn(pattern, lambda match: match[1] + content + match[2], text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"the markers <!-- {marker} --> are missing in the README")
    return found


def main() -> None:
    readme = ROOT / "README.md"
    readme.write_text(put(readme.read_text(encoding="utf-8"), "methods", methods_table()), encoding="utf-8")


if __name__ == "__main__":
    main()
