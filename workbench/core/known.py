"""What the inspections have in common that read rows of the new task and, where a person names them, rows of what was known before."""

from workbench.core.looking import LooksAtRows
from workbench.core.method import knob


class LooksAtKnown(LooksAtRows):
    """Mixed into them in the place of `LooksAtRows`."""

    known: str = knob("", help="data set of what the base knew, read as well; empty reads the rows alone", names="data")

    def looks_at(self) -> list[str]:
        return list(dict.fromkeys([self.rows, *([self.known] if self.known else [])]))
