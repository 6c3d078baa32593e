"""A run's own answers to its sample prompts, greedy, as the model is now."""

from collections.abc import Iterator

from workbench.core.events import Said
from workbench.jobs.averaging import Average
from workbench.jobs.prepare import Prepared
from workbench.materials.speaking import greedy
from workbench.methods.contracts import Attachment


def samples(step: int, attachment: Attachment, prepared: Prepared, average: Average) -> Iterator[Said]:
    """One answer after the other; the average stands in the model's place only while it speaks."""
    attachment.model.eval()
    for prompt in prepared.prompts:
        with average.in_place(attachment.trained()):
            answer = greedy(attachment.model, prepared.tokenizer, prompt)
        yield Said(step, "model", prompt, answer)
