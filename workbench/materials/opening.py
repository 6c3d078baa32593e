"""A model's files opened in half precision without a moment in which all threads of the process make their tensors in it.

transformers builds the empty model under `torch.set_default_dtype`, which is the whole process's [R]: a run that trains in another thread
would get a tensor of the wrong format just then. Here only this thread's factories make that format, while the model is built on the meta
device; all else is transformers' own way, and what comes out is the same to the bit [V].

For the same length transformers takes the tying of head and embeddings away from the class of all models, and gives back what it found
[R]: of two threads that open models at once the second finds it gone, and gives that back for good. So models are made one at a time,
whoever makes them: under `ALONE`. What the hub has to send comes before that, lest a download keep every other model waiting.

What it is not: a loader. Which files there are, how they are read, converted and rounded is transformers'. Tags as in the project's notes:
[R] read in transformers 5.23, [V] held by a test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:  # its model code takes seconds to import
    from transformers import PreTrainedModel

ALONE = threading.RLock()  # held while transformers makes a model, from files or from a config

FACTORIES = (
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.rand,
    torch.randn,
    torch.tensor,
    torch.arange,
    torch.linspace,
    torch.eye,
)


class Making(TorchFunctionMode):
    """For the length of a `with`, what this thread makes in the default format is made in another."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # fmt: skip
        told = kwargs or {}
        made = func(*args, **told)
        if func in FACTORIES and told.get("dtype") is None and made.dtype == torch.get_default_dtype():
            return func(*args, **{**told, "dtype": self.dtype})
        return made


def from_files(path: str, dtype: torch.dtype, **told: Any) -> PreTrainedModel:
    """As `AutoModelForCausalLM.from_pretrained`, from safetensors and without code that comes with a model; its exceptions too."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    told |= {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False}
    if not Path(path).is_dir():
        _fetch(path)
    with ALONE:
        if dtype == torch.get_default_dtype():
            return AutoModelForCausalLM.from_pretrained(path, **told)
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        if not isinstance(kind, type):  # none, or several to choose from
            return AutoModelForCausalLM.from_pretrained(path, **told)
        return _as(kind, path, told)


def _fetch(path: str) -> None:
    """Brings the weights of a hub id into its cache, where transformers then finds them; what is not there it tells itself."""
    from transformers.utils.hub import cached_file, get_checkpoint_shard_files

    def there(name: str) -> str | None:
        return cached_file(path, name, _raise_exceptions_for_gated_repo=False, _raise_exceptions_for_missing_entries=False)

    if there("model.safetensors") is None and (index := there("model.safetensors.index.json")):
        get_checkpoint_shard_files(path, index)


def _as(kind: type[PreTrainedModel], path: str, told: dict[str, Any]) -> PreTrainedModel:
    """A model of this class, made with this thread's factories alone in the other format."""

    def within(cls: type[PreTrainedModel], numbers: torch.dtype, *rest: Any) -> list[AbstractContextManager[Any]]:
        return [*super(own, cls).get_init_context(torch.get_default_dtype(), *rest), Making(numbers)]

    own = type(kind.__name__, (kind,), {"__module__": kind.__module__, "get_init_context": classmethod(within)})
    model = own.from_pretrained(path, **told)
    model.__class__ = kind
    return model
