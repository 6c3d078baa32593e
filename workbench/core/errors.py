"""The one error a person is meant to read: what happened, why, and what to do next.

Anything else that is raised is a defect of ours; the runner keeps its traceback and shows a plain sentence.
"""


class WorkbenchError(Exception):
    """A mistake in what was given, or a limit of the machine, told in full sentences and never with a traceback."""


class SpecError(WorkbenchError):
    """Every mistake of a spec at once; `mistakes` holds one sentence each."""

    def __init__(self, mistakes: list[str]):
        self.mistakes = mistakes
        count = "one mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"The spec has {count}:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))
