"""What every adapter that looks at rows before the first step has in common: how many."""

from pydantic import BaseModel

from workbench.core.method import knob


class Looking(BaseModel):
    """Mixed into the adapters that look at rows (`methods/contracts.py`)."""

    rows: int = knob(64, ge=1, le=100_000, help="rows that are looked at before the first step, drawn at random", log=True, more=True)

    def looks_at(self) -> list[str]:
        """The rows that are trained on, unless an adapter says otherwise."""
        return [""]
