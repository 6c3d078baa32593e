"""(IA)³: activations made larger or smaller, as peft builds it. Not here: how it is put on the model (`materials/tuners.py`).

Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, 2022. arXiv:2205.05638. Tags as in the project's
notes: [P] the paper, [R] read in peft 0.21.2, [D] derived.
"""

from typing import Literal

from peft import IA3Config
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.core.targeted import Turned
from workbench.materials.low_rank import LowRankAttachment, matrices
from workbench.materials.region import cost
from workbench.materials.tuners import tuned
from workbench.methods.contracts import Adapter, Cost

GIVEN = ("k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv")  # matrices whose output is scaled
READ = ("down_proj", "fc2", "dense_4h_to_h", "mlp.c_proj", "w2")  # and whose input is


class IA3(Turned, Adapter, title="(IA)³", paper="arXiv:2205.05638"):
    """Make each key, each value and each inner activation of the MLPs larger or smaller.

    $$k' = l_k \\odot k, \\qquad v' = l_v \\odot v, \\qquad h' = l_h \\odot h$$

    Three vectors a block, all ones at the start, are everything that is learnt [P]: hardly any numbers, for few rows and narrow tasks.
    Merged they scale rows and columns of the matrices [D], so they cost nothing afterwards. So little moves that learning rates are higher
    than LoRA's.

    Where a model keeps queries, keys and values in one matrix, the queries are scaled with them, as in peft. peft's own list takes
    queries instead of keys for some families, Qwen and Gemma among them [R]; here it is keys everywhere, as in the paper.
    """

    over_rounded = True

    scaled: Literal["keys, values and MLP", "keys and values", "MLP"] = knob("keys, values and MLP", help="what is scaled")

    def attach(self, model: PreTrainedModel, seed: int) -> LowRankAttachment:
        scaled = self._scaled(model)
        config = IA3Config(
            target_modules=sorted(scaled),
            feedforward_modules=sorted(name for name in scaled if name.endswith(READ)),
            fan_in_fan_out=all(isinstance(model.get_submodule(name), Conv1D) for name in scaled),
            task_type="CAUSAL_LM",
        )
        return tuned(model, config, seed)

    def cost(self, model: PreTrainedModel) -> Cost:
        return cost(model, {f"{name}.weight": count for name, count in self._scaled(model).items()})

    def _scaled(self, model: PreTrainedModel) -> dict[str, int]:
        """By the name of the matrix, how many of its outputs, or of its inputs, are scaled."""
        wanted = {"keys, values and MLP": (GIVEN, READ), "keys and values": (GIVEN,), "MLP": (READ,)}[self.scaled]
        found = dict[str, int]()
        for names in wanted:
            own = [(name, shape) for name, shape in matrices(model, "all linear") if name.endswith(tuple(f".{end}" for end in names))]
            if not own:
                raise WorkbenchError(
                    f"(IA)³ does not find what to scale in this {type(model).__name__}: it has no matrix called {', '.join(names)}. Choose "
                    "something else under scaled, or another adapter."
                )
            for name, shape in own:
                outs, ins = shape[::-1] if isinstance(model.get_submodule(name), Conv1D) else shape
                found[name] = outs if names is GIVEN else ins
        return found
