"""Asking a run's probes at their moments: numbers go to the plots, sentences to the log, and the time stays in bounds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from workbench.core.events import Event, Noted
from workbench.jobs.clock import Clock
from workbench.methods.contracts import Moment, Probe, Reading


@dataclass
class Probing:
    """`spent` counts seconds by probe, without its first reading, which also pays for warming up; `worked` those of all steps."""

    probes: Sequence[Probe]
    worked: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)  # what was noted, so that a lasting state is told once
    clock: Clock = field(default_factory=Clock)

    def watches_steps(self, step: int) -> bool:
        """Whether a probe wants to see how far this step goes."""
        return any(probe.when == "step" and self._wanted(probe, step) for probe in self.probes)

    def read(self, when: str, moment: Moment, values: dict[str, float], always: bool = False) -> list[Event]:
        """Ask the probes of one moment; numbers go into `values`, sentences come back. `always`: also those that are not due."""
        said: list[Event] = []
        for probe in self.probes:
            wanted = when == "evaluation" or self._wanted(probe, moment.step)
            if probe.when == when and (wanted or always):
                reading = self._timed(probe, moment, values)
                if reading.says and wanted and reading.says not in self.told:
                    self.told.add(reading.says)
                    said.append(Noted(reading.says, reading.level))
        return said

    def _wanted(self, probe: Probe, step: int) -> bool:
        return probe.due(step) and self.spent.get(probe.name, 0.0) <= probe.budget() * self.worked

    def _timed(self, probe: Probe, moment: Moment, values: dict[str, float]) -> Reading:
        began = time.perf_counter()
        with self.clock.part("probes"):
            reading = probe.read(moment)
        if probe.name in self.spent:
            self.spent[probe.name] += time.perf_counter() - began
        else:
            self.spent[probe.name] = 0.0
        values.update(reading.values)
        if probe.budget() < 1 and self.worked:
            values[f"{probe.name}_share"] = self.spent[probe.name] / self.worked
        return reading
