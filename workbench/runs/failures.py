"""What a failed run tells a person: one plain sentence or two for any error. The traceback is kept beside it, never shown first."""

import errno

from workbench.core.errors import WorkbenchError

MEMORY_WORDS = ("can't allocate memory", "not enough memory", "out of memory")


def sentence(error: BaseException, training: bool = False) -> str:
    """What happened, why, and what to do. Libraries that the runner may not import are recognised by the name of their error."""
    text = " ".join(str(error).split())
    if isinstance(error, WorkbenchError):
        return str(error)
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in text:
        return "The disk is full, so the run could not write its files. Free some space, then resume the run from its last checkpoint."
    if type(error).__name__ == "OutOfMemoryError":
        return f"The graphics card ran out of memory. {_less(training)}"
    if isinstance(error, MemoryError) or any(words in text.lower() for words in MEMORY_WORDS):
        return f"The machine ran out of memory. {_less(training)}"
    if isinstance(error, OSError) and error.filename:
        return f"The file {error.filename} could not be used ({error.strerror}). Check that it exists and may be read and written."
    named = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return f"The run broke off through a mistake in the program ({named}). The traceback is kept with the run and shown there."


def _less(training: bool) -> str:
    if training:
        return "Lower batch_size (and raise accumulate by as much), lower data.max_length, or take a smaller model, then start it again."
    return "Close what else is at work here, or take fewer or smaller models and shorter rows, then start it again."
