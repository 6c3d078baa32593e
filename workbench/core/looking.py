"""What every inspection that reads rows has in common: which, and how many."""

from pydantic import BaseModel

from workbench.core.method import knob


class LooksAtRows(BaseModel):
    """Mixed into the inspections that read rows (`methods/contracts.py`)."""

    rows: str = knob("", help="data set whose rows are read; empty takes what the tuned models' runs held back", names="data")
    most_rows: int = knob(32, ge=1, le=100_000, help="at most so many rows, drawn at random", label="rows read", log=True)

    def looks_at(self) -> list[str]:
        return [self.rows]
