"""All contracts on one page: ten nouns and their verbs. `tests/test_every_method.py` holds every member to its shelf's laws.

A method is a frozen value (`core.method.Method`); what must remember between calls is what its verb returns. A verb that may take long is a
generator: it yields `Progress` and returns its result (`kept = yield from …`). B batch, T tokens, V vocabulary, N examples, L layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from workbench.core.anchor import Anchored
from workbench.core.averaged import Averaged
from workbench.core.events import Progress
from workbench.core.ground import Grounded
from workbench.core.guard import Guarded
from workbench.core.kitted import Kitted
from workbench.core.method import Method
from workbench.core.pace import Paced
from workbench.core.picture import Finding, Picture
from workbench.core.sifting import Sifting
from workbench.core.takes import miscounted
from workbench.materials.attachment import Attachment, Cost
from workbench.materials.foreknown import Foreknowing
from workbench.materials.further import Further
from workbench.materials.lora import Factors
from workbench.materials.moment import Moment, Reading, Showing
from workbench.materials.products import AddProduct, added_here
from workbench.materials.rows import Example, Selection
from workbench.materials.slot import Slot
from workbench.materials.stepper import Stepper
from workbench.materials.token_stats import Spoken, TokenStats, kl
from workbench.materials.units import Fused, Heard
from workbench.materials.voice import Prompting, Speaker, Voice

if TYPE_CHECKING:  # model code takes seconds to import, and merges have no use for it
    from transformers import PreTrainedModel

    from workbench.materials.around import Around
    from workbench.materials.evidence import Evidence, Learnt
    from workbench.materials.subject import Subject

# Selectors: which examples are worth learning from.


class Selector(Sifting, Method, ABC, shelf="selectors"):
    """Laws: N answers for N examples; the same for the same seed; every dropped example has a reason."""

    def reader(self) -> str | None:
        """Reference of the model that must read the rows, "" for the one that is trained; None where none must."""
        return None

    def others(self) -> list[str]:
        """Names of the data sets that it looks at beside the one it is asked of."""
        return []

    @abstractmethod
    def keep(self, examples: Sequence[Example], around: "Around") -> Generator[Progress, None, Selection]: ...


# Adapters: which numbers may move.


class Adapter(Grounded, Method, ABC, shelf="adapters"):
    """Laws: output unchanged at step 0 unless it says otherwise; only what is declared moves; base + delta = tuned; saves and loads."""

    whole: ClassVar[bool] = False  # whether the base's own weights move: they are then kept in float32 and saved as a model
    family: ClassVar[Literal["beside", "turned", "part", "whole"]] = "beside"  # what it does to a matrix
    rates: ClassVar[tuple[float, float]] = (5e-5, 5e-3)  # between which an Adam's learning rate usually lies
    held: ClassVar[int] = 4  # bytes in memory for a number that moves, beside its gradient and what the optimizer remembers of it
    stored: ClassVar[int] = 4  # bytes of it on the disk, in the adapter that is saved
    by_task: ClassVar[bool] = False  # whether it must know which task a row belongs to
    packs: ClassVar[bool] = True  # whether it can be trained on several rows in one sequence

    @abstractmethod
    def attach(self, model: "PreTrainedModel", seed: int) -> Attachment:
        """Put the adapter on `model` (a causal language model in eval mode) and say what may move."""

    @abstractmethod
    def cost(self, model: "PreTrainedModel") -> Cost:
        """What would move, without moving it; `model` may lie on the meta device."""

    def links(self) -> int:
        """Into how many equal parts a run is divided; each but the first begins with `Attachment.next_link`, new optimizer, new warm-up."""
        return 1

    def earlier(self) -> str:
        """Reference of a run on the same base whose LoRA it goes by (`Attachment.heed`); empty where it goes by none."""
        return ""

    def looks_at(self) -> list[str]:
        """Names of the data sets whose rows it looks at; "" is the one that is trained on."""
        return []


class Informed(Adapter, shelf="adapters"):
    """An adapter that looks at weights or rows before it knows what may move or where it starts. `cost` is the most that may move."""

    @abstractmethod
    def study(self, model: "PreTrainedModel", evidence: "Evidence") -> Generator[Progress, None, "Learnt"]:
        """What it finds there, with `model` as it is at the start; asked once in a run, also if the run is stopped and resumed."""

    @abstractmethod
    def attach(self, model: "PreTrainedModel", seed: int, learnt: "Learnt") -> Attachment: ...  # type: ignore[override]


# Losses: what a token's surprise is worth.


class Loss(Anchored, Spoken, Method, ABC, shelf="losses"):
    """Laws: finite and differentiable; blind to tokens outside the mask; cross-entropy at its neutral knobs, if it has any.

    The training loop computes Σ mask · weights · (−logp) / M, with M the trained tokens of the whole accumulation window. A loss that is
    no weighted sum of surprises gives the weights that have its gradient, and says so. Every loss can be anchored (`core/anchor.py`).
    """

    by_task: ClassVar[bool] = False  # whether it must know which task a row belongs to (`data.task`)
    neutral: ClassVar[dict[str, Any] | None] = {}  # knob values at which it is cross-entropy; None where there are none

    def entropy_over(self) -> int | None:
        """Over how many of the likeliest tokens `stats.entropy` is wanted: 0 for the whole vocabulary, None for no entropy."""
        return None

    @abstractmethod
    def weights(self, stats: TokenStats) -> Tensor:
        """Weights of the shape of `stats.logp`, detached from the graph."""

    def needs_base(self) -> bool:
        """Whether `penalty` is wanted, which costs a forward pass of the base for each batch."""
        return self.anchor > 0

    def penalty(self, table: Tensor, base: Tensor, labels: Tensor) -> Tensor:
        """(N,) what is added to each learnt token's term, from the (N, V) log-probabilities of the model and of the base."""
        return self.anchor * kl(base, table)

    def further(self, model: "PreTrainedModel", batch: dict[str, Tensor]) -> Further | None:
        """More readings of a batch, each with gradients, whose tables `difference` is given; None where one reading is enough."""
        return None

    def difference(self, table: Tensor, again: Sequence[Tensor]) -> Tensor:
        """(N,) what is added to each learnt token's term, from its (N, V) log-probabilities in the plain and the further readings."""
        return torch.zeros_like(table[:, 0])

    def judges(self) -> list[str]:
        """References of models that read all training rows once before the first step; "" is the run's own base."""
        return []

    def scores(self, judged: Tensor) -> Tensor:
        """(n,) `stats.score` of the n learnt tokens of the training rows, from the J judges' log-probabilities of them, (n, J)."""
        return judged.mean(-1)


# Noises: what the model is shown instead of its inputs while it learns.


class Noise(Method, ABC, shelf="noises"):
    """Laws: labels, prompts and padding stay; nothing changes at its neutral knobs; the same for the same generator."""

    neutral: ClassVar[dict[str, Any]] = {}  # knob values at which it changes nothing

    @abstractmethod
    def disturb(self, batch: dict[str, Tensor], showing: Showing) -> dict[str, Tensor]:
        """The batch with other `input_ids`, or with `inputs_embeds` (B, T, D) beside them; the given one is not changed."""


# Updates: how the numbers move.


class Update(Guarded, Paced, Averaged, Method, ABC, shelf="updates"):
    """Laws: what is not in the groups stays frozen; resumes exactly from its state; its step is linear in the learning rate.

    How fast each part moves: `core/pace.py`; steps that the loop shortens: `core/guard.py`; an average that is kept: `core/averaged.py`.
    """

    adam: ClassVar[bool] = False  # whether its learning rate is one as Adam's
    forward_only: ClassVar[bool] = False  # whether it asks for losses alone: no gradient is ever taken

    @abstractmethod
    def begin(self, groups: list[dict[str, Any]]) -> Stepper: ...

    @abstractmethod
    def bytes_per_parameter(self) -> int:
        """Memory of the optimizer's state for one trained float32 parameter, in bytes."""


# Probes: what happened, in numbers.


class Probe(Method, ABC, shelf="probes"):
    """Laws: changes no weight, gradient or random state."""

    when: ClassVar[Literal["gradient", "step", "evaluation"]] = "gradient"  # complete, nothing moved yet · moved, with displacement · …

    def due(self, step: int) -> bool:
        """Whether it is read at this step; at evaluations the loop asks too."""
        return True

    def budget(self) -> float:
        """The share of a run's time that its readings may take; beyond it the loop leaves some out."""
        return 1.0

    @abstractmethod
    def read(self, moment: Moment) -> Reading: ...


# Merges: many models into one.


class Merge(Kitted, Foreknowing, Method, ABC, shelf="merges"):
    """Laws: same names, shapes, dtypes; k copies of the base give the base; the same in any blocks, seed for seed.

    `tensor` gets and returns float32; streaming, rounding and files are the job's, which calls the verbs on blocks of whole rows: what a
    row becomes may depend on it and on `slot` (with what `materials/foreknown.py` says of the whole tensor), not on its neighbours.
    """

    least: ClassVar[int] = 1  # fewest and most tuned models it is defined for
    most: ClassVar[int] = 1000
    whole: ClassVar[bool] = False  # whether it is a `Fusion`
    factored: ClassVar[bool] = False  # whether it is a `FactorMerge`
    ordered: ClassVar[bool] = False  # whether the order of the models matters, because they have roles or random numbers of their own

    def mistakes(self, weights: Sequence[float]) -> list[str]:
        """Why these weights cannot be merged by this method, a sentence each; asked before anything is read."""
        return miscounted(self.title(), self.least, self.most, len(weights))

    ends: ClassVar[tuple[str, str] | None] = None  # knobs: the factor of the first block, and what the last one gets on top

    @abstractmethod
    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor: ...

    @abstractmethod
    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        """Numbers for the picture that explain what happens to this tensor, by the same names for each; of blocks their mean is kept."""


class Apart(Merge, shelf="merges"):
    """A merge that is not made tensor by tensor; what it is asked for instead, the two kinds below say."""

    def tensor(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        raise NotImplementedError

    def explain(self, slot: Slot, base: Tensor, tuned: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
        return {}


class Fusion(Apart, shelf="merges"):
    """A merge of whole models, which may change their widths."""

    whole = True

    def listens(self) -> bool:
        """Whether it wants to know what the units of each model say to some rows."""
        return False

    @abstractmethod
    def model(self, config: dict[str, Any], tuned: Sequence[dict[str, Tensor]], weights: Sequence[float], heard: Sequence[Heard] = (),
              add: AddProduct = added_here) -> Generator[Progress, None, Fused]:  # fmt: skip
        """State dict and config of the result, from the base's and the tuned models' (float32); of each block what explains it, or []."""


class FactorMerge(Apart, shelf="merges"):
    """A merge of LoRA adapters alone, one matrix at a time; an adapter that leaves the matrix alone comes with factors of rank 0."""

    factored = True

    @abstractmethod
    def factors(self, slot: Slot, tuned: Sequence[Factors], weights: Sequence[float]) -> tuple[Factors, dict[str, float]]:
        """The merged change's factors, and the numbers that explain them, by the same names for every matrix."""


# Decoders: how the next token is chosen from.


class Decoder(Prompting, Method, ABC, shelf="decoders"):
    """Law: neutral knobs give the plain model."""

    neutral: ClassVar[dict[str, Any]] = {}  # knob values at which it is the plain model

    @abstractmethod
    def begin(self, own: Speaker, base: Speaker) -> Voice:
        """Who speaks: the voice whose logits the next token is drawn from. Both that are given go on being asked by others."""


# Inspections: what tuning did to a model.


class Inspection(Method, ABC, shelf="inspections"):
    """Laws: changes no model; says the same again for the same seed; the base held against itself shows no change."""

    pictures: ClassVar[tuple[Picture, ...]] = ()  # how its tables are drawn, the most telling first
    still: ClassVar[dict[str, float]] = {}  # its numbers where the tuned model is the base itself, as far as they are known

    def looks_at(self) -> list[str]:
        """Names of the data sets whose rows it reads (`core/looking.py`); "" is what the tuned models' runs held back."""
        return []

    @abstractmethod
    def inspect(self, subject: "Subject") -> Generator[Progress, None, Finding]: ...
