"""On which matrices an adapter works: kinds of them, or some by name."""

from typing import Literal

from pydantic import BaseModel

from workbench.core.method import knob


class Where(BaseModel):
    """Mixed into the adapters that work on matrices inside the blocks; which these are, `materials/low_rank.py` finds out."""

    targets: Literal["all linear", "attention", "mlp"] = knob("all linear", help="on which matrices it works")
    modules: str = knob("", help="matrices by name instead, such as q_proj, layers.0.*", label="modules by name", names="module", more=True)

    @property
    def where(self) -> str:
        """What `low_rank.matrices` is asked for."""
        return self.modules.strip() or self.targets
