"""What libraries read from the environment while they are imported, said once for the page and the shell. `tell` comes before them."""

import os

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


def tell() -> None:
    os.environ.update(QUIET)
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
