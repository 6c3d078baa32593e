"""A step of a recipe that can be left out without being taken away: a knob that every selector has. Read by `jobs/steps.py`."""

from pydantic import BaseModel

from workbench.core.method import knob


class Skippable(BaseModel):
    """A step that is off keeps its place and its knobs, and does nothing."""

    off: bool = knob(False, help="keep this step in the recipe, but do not do it", label="leave out")
