"""Several LoRAs beside the same matrices, learnt one after the other: the attachment of a chain.

What it is not: when a link ends (`jobs/schedule.py`), or what a chain is good for (`methods/adapters/cola.py`). A link is a peft adapter,
and all are active together. An active adapter learns and drops its inputs in peft; a link that is closed must do neither.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from workbench.materials.lora import PREFIX
from workbench.materials.low_rank import FIRST, LowRankAttachment, write


class ChainAttachment(LowRankAttachment):
    """The last link learns, those before it stand still."""

    def __init__(self, wrapper: PeftModel, seed: int):
        super().__init__(wrapper)
        self.seed = seed

    @property
    def links(self) -> list[str]:
        """Their names in peft, in the order in which they were learnt."""
        return list(self.wrapper.peft_config)

    def next_link(self) -> None:
        """Close the last link and begin another, whose B is 0; its A follows from the seed and its number alone."""
        number = len(self.links) + 1
        with torch.random.fork_rng():
            torch.manual_seed(self.seed * 1_000_003 + number)
            self.wrapper.add_adapter(f"link{number}", copy.deepcopy(self.wrapper.peft_config[FIRST]))
        self._arrange()

    @contextmanager
    def base(self) -> Iterator[None]:
        try:
            with super().base():
                yield
        finally:
            self._freeze()  # peft has let all of them learn again

    def state(self) -> dict[str, Tensor]:
        """The factors of all links by the parameters' names, which name the link."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters() if ".lora_" in name}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Have as many links as the state has, with its numbers; the last of them learns."""
        count = len({name.split(".")[-2] for name in state})
        while len(self.links) > count:
            self.wrapper.delete_adapter(self.links[-1])
        while len(self.links) < count:
            self.next_link()
        self._arrange()
        mine = self.state()
        for name, tensor in state.items():
            mine[name].copy_(tensor)

    def save(self, folder: Path) -> None:
        """One LoRA of all links: rows of A and columns of B in their order, and alpha / rank as it was."""
        state, joined = self.state(), dict[str, Tensor]()
        for stem in (name.removesuffix(f"{FIRST}.weight") for name in state if name.endswith(f".{FIRST}.weight")):
            side = 0 if stem.endswith(".lora_A.") else 1
            joined[f"{PREFIX}{stem}weight"] = torch.cat([state[f"{stem}{link}.weight"] for link in self.links], side)
        config = copy.deepcopy(self.wrapper.peft_config[FIRST])
        config.r, config.lora_alpha = config.r * len(self.links), config.lora_alpha * len(self.links)
        write(folder, config, joined)

    def _arrange(self) -> None:
        """All links speak; the last one alone learns, and has inputs dropped while it does."""
        last = self.links[-1]
        share = self.wrapper.peft_config[last].lora_dropout
        self.wrapper.base_model.set_adapter(self.links)
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                for name in self.links:
                    module.lora_dropout[name] = nn.Dropout(share) if share and name == last else nn.Identity()
        self.model.train(self.model.training)  # the modules that are new take part in it
        self._freeze()

    def _freeze(self) -> None:
        self.wrapper.set_requires_grad(self.links[:-1], False)
