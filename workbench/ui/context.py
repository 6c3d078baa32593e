"""What every tab is built with: the store, the runner, the workspace and the page's pulse. Holds them, does nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.ui.pulse import Pulse

if TYPE_CHECKING:  # a tab that stands alone in a test needs neither a database nor threads
    from workbench.core.workspace import Workspace
    from workbench.runs.runner import Runner
    from workbench.runs.store import Store


@dataclass(frozen=True)
class Context:
    """One per process; shared by all pages and browser tabs."""

    store: Store
    runner: Runner
    workspace: Workspace
    pulse: Pulse = field(default_factory=Pulse)
