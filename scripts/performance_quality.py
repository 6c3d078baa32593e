"""What `write_performance.py` shows of the results that are about what methods do, and not about their speed: tables and goals."""

import statistics
from collections.abc import Iterator

from performance_tables import Goal, Result, Table, at_least, at_most, between, short


def adapters(result: Result) -> Table:
    lines = [
        ["adapter", "learning rate", "loss, new skill", "right", "known skills still right", "forgotten, nats", "forgotten when learnt"]
    ]
    for row in result["table"]:
        keys = ("rate", "loss", "right", "still right", "forgotten", "forgotten when learnt")
        lines.append([row["adapter"], *(short(row[key]) for key in keys)])
    return lines


def intruders(result: Result) -> Table:
    keys = ("chosen", "loss", "forgotten", "intruders", "loss added without", "forgotten added without")
    return [["case", "compared at", *keys[1:]], *([row["case"], *(short(row[key]) for key in keys)] for row in result["table"])]


def merging(result: Result) -> Table:
    lines = [["merge", "new skills right", "known skills right", "mean", "loss"]]
    return lines + [[row["merge"], *(between(row[key]) for key in ("new", "known", "mean", "loss"))] for row in result["rows"]]


def messy(result: Result) -> Table:
    lines = [["step", "meant for", "rows dropped or changed", "precision", "recall"]]
    keys = ("dropped", "precision", "recall")
    return lines + [[row["step"], ", ".join(row["flaws"]), *(short(row[key]) for key in keys)] for row in result["steps"]]


def onset(result: Result) -> Table:
    lines = [["network", "direction", "cases", "harmed below r = 1", "harm begins at r, median", "least"]]
    keys = ("network", "direction", "cases", "collapses_below_1", "median", "least")
    return lines + [[short(row[key]) for key in keys] for row in result["rows"]]


def onset_goals(result: Result) -> Iterator[Goal]:
    yield at_most("steps below r = 1 that did harm", sum(row["collapses_below_1"] for row in result["rows"]), 0)


def pocket(result: Result) -> Table:
    runs = [name for name, found in result.items() if isinstance(found, dict) and "facts" in found]
    skills = [name for name in result["base"] if name != "stories"]
    mean = {run: {skill: statistics.mean(each) for skill, each in result[run].items()} for run in runs}
    return [["skill", *runs], *([skill, *(short(mean[run].get(skill)) for run in runs)] for skill in skills)]


def pocket_goals(result: Result) -> Iterator[Goal]:
    quick = result["quickstart"]
    yield at_least("quickstart: right answers of the new style", statistics.mean(quick["tale"]), 0.9)
    yield at_most("quickstart: seconds of the whole process", statistics.mean(quick["seconds"]), 60)


def scaling_law(result: Result) -> Table:
    lines = [["data set", "share of the rows seen", "correlation with what was measured", "the authors'", "relative accuracy"]]
    for one in result["sets"]:
        for row in one["accept_then_stop"]:
            lines.append([one["set"], f"1/{row['share']}", *(short(row[key]) for key in ("pearson", "authors", "accuracy"))])
    return lines


def selection(result: Result) -> Table:
    keys, ways = ("of the target", "right", "loss"), result["ways"].items()
    rows = [[name, *(short(found[key]["mean"]) for key in keys)] for name, found in ways]
    return [["way", "rows of the target", "right answers", "loss"], *rows]


def spike(result: Result) -> Table:
    keys = ("before", "end", "largest_r", "right")
    cases = ((name, seeds) for name, seeds in result.items() if isinstance(seeds, list))
    lines = [["run", "loss before", "loss at the end", "largest r", "right answers"]]
    return lines + [[name, *(short(statistics.mean(seed[key] for seed in seeds)) for key in keys)] for name, seeds in cases]
