"""Neuron strength: chosen neurons of the MLPs say more or less while the model answers.

The intervention of H-Neurons: On the Existence, Impact, and Origin of Hallucination-Associated Neurons in LLMs, 2025. What it is not: the
search for such neurons, which is an inspection (`methods/inspections/h_neurons.py`), or a change of weights.
Tags as in the project's notes: [P] abstract, [R] read in the authors' code (thunlp/H-Neurons), [D] derived, [O] our own choice.
"""

import re

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice

WHERE = "The inspection Neuron contributions finds some."


class NeuronStrength(Decoder, title="Neuron strength (H-neurons)", paper="arXiv:2512.01797"):
    """Turn single neurons up or down while the model speaks, such as those that foretell false answers.

    $$W_{\\mathrm{down}}\\, (g \\odot a), \\qquad g_j = c \\ \\text{for the neurons that are named, else}\\ 1$$

    a is what the matrix at an MLP's end reads, and c goes from 0, where the neurons say nothing, to 3 [R]. The inspection Neuron
    contributions looks for neurons that foretell false answers and names them as they are wanted here; the authors find that turned up
    they make a model comply too much, and that they are there before tuning [P]. So they are turned in every model of the comparison, the
    base too, and at every token, of the prompt too [O]; to hear a model without it, ask again with plain decoding. What stands beside a
    token is how likely the model itself finds it, with its neurons as they are [O]. At c = 1 it is the model [D]. Paper: arXiv:2512.01797.
    """

    neutral = {"factor": 1.0}

    neurons: str = knob("", help="layer:neuron of each, counted from 0, for example 3:17, 5:402")
    factor: float = knob(0.0, ge=0, le=3, step=0.05, help="c: what they say is multiplied by this; 0 silences them, 1 leaves them alone")

    def costs(self) -> str:
        return "Each model reads by itself, beside the batch in which all are read for the probabilities."

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own if self.factor == 1 else own.turned(self.named(), self.factor)

    def named(self) -> dict[int, list[int]]:
        """By layer."""
        found: dict[int, list[int]] = {}
        for word in re.split(r"[\s,;]+", self.neurons.strip()):
            match = re.fullmatch(r"(\d+):(\d+)", word)
            if match is None:
                says = f"{word!r} is no neuron" if word else "no neuron is named"
                raise WorkbenchError(f"Neuron strength: {says}. Write layer:neuron for each, for example 3:17, 5:402. {WHERE}")
            found.setdefault(int(match[1]), []).append(int(match[2]))
        return found
