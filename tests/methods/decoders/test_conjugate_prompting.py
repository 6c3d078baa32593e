"""Conjugate prompting: the frame alone is what changes, and a frame of nothing but the question is plain decoding."""

from pathlib import Path

import pytest
from pico import make_model

from workbench.core.asking import CompareSpec, Exchange
from workbench.core.errors import WorkbenchError
from workbench.core.events import Said, Started
from workbench.core.spec import parse_spec
from workbench.core.workspace import Workspace
from workbench.jobs.compare import compare
from workbench.methods.decoders.conjugate_prompting import ConjugatePrompting


def asked(models: list[str], workspace: Workspace, prompt: str, decoder: dict[str, object], **more: object) -> tuple[str, list[Said]]:
    """The text that was sent, and the answers."""
    given = {"kind": "compare", "models": models, "prompt": prompt, "max_tokens": 6, "temperature": 2, "decoder": decoder, **more}
    spec = parse_spec(given)
    assert isinstance(spec, CompareSpec)
    events = list(compare(spec, workspace.run("0001"), workspace))
    sent = next(event for event in events if isinstance(event, Started)).about["template"]
    return sent, [event for event in events if isinstance(event, Said) and event.done]


@pytest.fixture
def models(tmp_path: Path, pico_folder: Path, pico_tokenizer: object) -> list[str]:
    make_model(seed=1).save_pretrained(tmp_path / "other")
    pico_tokenizer.save_pretrained(tmp_path / "other")  # type: ignore[attr-defined]
    return [str(pico_folder), str(tmp_path / "other")]


def test_a_frame_of_nothing_but_the_question_is_plain_decoding(models: list[str], workspace: Workspace) -> None:
    prompt = "Where is {Mara}? {prompt}"
    plain = asked(models, workspace, prompt, {"method": "plain"})
    assert asked(models, workspace, prompt, {"method": "conjugate_prompting", "frame": "{prompt}"}) == plain


def test_every_model_is_asked_the_framed_question_and_that_is_what_is_shown(models: list[str], workspace: Workspace) -> None:
    framed = {"method": "conjugate_prompting", "frame": "Once {more} {prompt} and {prompt} so"}
    sent, said = asked(models, workspace, "Where {0}?", framed)
    expected = asked(models, workspace, "Once {more} Where {0}? and Where {0}? so", {"method": "plain"})
    assert (sent, said) == expected and all(one.prompt == "Once {more} Where {0}? and Where {0}? so" for one in said)
    assert said != asked(models, workspace, "Where {0}?", {"method": "plain"})[1]


def test_what_was_asked_before_stands_as_it_was_written(models: list[str], workspace: Workspace) -> None:
    history = [Exchange(prompt="Hello", answers=dict.fromkeys(models, "Yes")).model_dump()]
    sent, _ = asked(models, workspace, "Why?", {"method": "conjugate_prompting", "frame": "In rhymes: {prompt}"}, history=history)
    assert sent.count("In rhymes: ") == 1 and "<|user|>Hello<|end|>" in sent and "<|user|>In rhymes: Why?<|end|>" in sent


def test_a_frame_without_a_place_for_the_question_is_told() -> None:
    with pytest.raises(WorkbenchError, match=r"Write \{prompt\}"):
        ConjugatePrompting(frame="Hello").asks("Why?")
