"""What libraries find while they are imported, said once for all programs of ours. `tell` comes before them. [R]: read in their code."""

import logging
import os
import sys

QUIET = {  # nothing is reported to anyone
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
USUAL = {  # unless a person has said otherwise
    "TOKENIZERS_PARALLELISM": "false",
    # Threads that wait for one another sleep instead of spinning. On two busy cores it took 0.6 of the time, and of the CPU's too.
    "OMP_WAIT_POLICY": "PASSIVE",
}
FETCHES = "kernels"  # a package by which bitsandbytes and transformers fetch compiled code from the hub and run it, unasked [R]


def tell() -> None:
    sys.modules[FETCHES] = None  # type: ignore[assignment]  # as if it were not installed
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses that package aloud
    os.environ.update(QUIET)
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)


def alone(module: str) -> list[str]:
    """The command by which a module's `main` works in a process of its own; what it is told on the command line follows."""
    begin = "from workbench.core import environment, imports; environment.tell()"
    return [sys.executable, "-c", f"{begin}\nwith imports.that_stay(): from {module} import main\nmain()"]
