"""Conjugate prompting: the question is put in words that look less like what the model was tuned on, so that older abilities show again.

Understanding Catastrophic Forgetting in Language Models via Implicit Inference (Kotha, Springer, Raghunathan 2023). What it is not: a
translator. The paper translates questions into other languages; here the frame around the question is the user's, and the way back is
the user's next question in the talk. The paper was not read for this. Tags as in the project's notes: [K] known of the paper, [D] derived,
[O] our own choice.
"""

from workbench.core.errors import WorkbenchError
from workbench.core.method import knob
from workbench.methods.contracts import Decoder, Speaker, Voice

PLACE = "{prompt}"


class ConjugatePrompting(Decoder, title="Conjugate prompting", paper="arXiv:2309.10105"):
    """Ask in other words than those of the tuning data, and see whether what seemed forgotten is still there.

    $$y = s^{-1}\\left(f(s(x))\\right)$$

    f is the model, x the question, and s puts it so that it looks farther from the tuning data while it asks for the same ability. Tuning,
    say the authors, makes a model take a question near the tuning data for a task of the tuning, at the cost of what it could do
    before; asked from farther away it does again what it did before [K]. Tuning data being mostly English, they take other languages for
    s, which brings back learning from examples in the prompt after instruction tuning, and reasoning after tuning on code; it also brings
    back harmful answers that safety tuning had put away [K].

    Here s is a frame around the question, such as a request to answer in another language, or another form than the data's [O]. s⁻¹ is left
    to a next question: in a talk each model remembers its own answers and can be asked to say them in English [O]. Questions earlier in
    the talk stand as they were written, without the frame [O]. All models are asked the same words, the base too, and its opinion of a
    token is of one after these words. A frame of nothing but the question is plain decoding [D]. Paper: arXiv:2309.10105.
    """

    neutral = {"frame": PLACE}

    frame: str = knob(
        "Antworte auf Deutsch: {prompt}", help="what the models are asked; {prompt} stands for the question", label="the question's frame"
    )

    def asks(self, prompt: str) -> str:
        if PLACE not in self.frame:
            raise WorkbenchError(f"Conjugate prompting: the frame has no place for the question. Write {PLACE} where it is to stand.")
        return self.frame.replace(PLACE, prompt)

    def begin(self, own: Speaker, base: Speaker) -> Voice:
        return own
