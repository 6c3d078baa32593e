"""How the tests are looked up and handed out; what they share is in `shared.py`."""

import atexit
import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: it would knock at a network that may not answer for a minute

import pytest

from workbench.core import environment

environment.tell()  # as every program of ours does
# pytest's summary has the last word: DuckDB's bindings list on stderr what lives on when the interpreter ends
atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Who looks the tests up imports what they work with. Who only hands them out (`-n`) never comes here, and spares the seconds."""
    gc.disable()  # what is imported and looked up stays to the end
    collector.config.pluginmanager.import_plugin("shared")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """What is there before the first test is never looked through again: millions of objects, most of a second for each `gc.collect()`."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Side by side a file's tests stay together, and all of the browser's: they tell one story on one server."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # the browser's takes longest and is collected first
    return Files(config, log)
