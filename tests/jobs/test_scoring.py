"""Scores of a few rows: tasks from a set, losses as anyone would compute them, answers together as one by one."""

import pytest
import torch

from workbench.core.job import drain
from workbench.core.parts import DataSpec
from workbench.core.spec import TrainSpec
from workbench.core.workspace import Workspace
from workbench.jobs.mixing import learning
from workbench.jobs.scoring import ASKED, READ, Question, Task, answers, held_out, losses, right, share_right, tasks_of
from workbench.materials.corpus import load, split
from workbench.materials.models import POCKET, resolve, tokenizer
from workbench.materials.models import load as load_model
from workbench.materials.speaking import greedy
from workbench.materials.templates import Encoded, encode, encode_all


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def tasks(home: Workspace) -> list[Task]:
    return tasks_of("known", load("known", home, {}).examples, tokenizer(resolve(POCKET, home)), 256)


@pytest.fixture(scope="module")
def model(home: Workspace) -> torch.nn.Module:
    return load_model(resolve(POCKET, home), torch.device("cpu"), torch.float32)


def test_a_set_with_kinds_is_several_tasks_and_one_without_is_one(home: Workspace, tasks: list[Task]) -> None:
    assert {task.name for task in tasks} == {"facts", "arithmetic", "words", "translation"}
    assert all(len(task.rows["labels"]) <= READ and len(task.questions) <= ASKED for task in tasks)
    (one,) = tasks_of("doubles", load("skill_a", home, {}).examples, tokenizer(resolve(POCKET, home)), 256)
    assert one.name == "doubles" and len(one.rows["labels"]) == READ


def test_a_loss_is_the_mean_over_the_learnt_tokens(home: Workspace, tasks: list[Task], model: torch.nn.Module) -> None:
    speaker, total, count = tokenizer(resolve(POCKET, home)), 0.0, 0
    rows = [example for example in load("known", home, {}).examples if example.meta["skill"] == tasks[0].name][:READ]
    for example in rows:
        encoded = encode(speaker, example, "answers", 256)
        ids = torch.tensor([encoded.ids])
        with torch.no_grad():
            logp = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        learnt = torch.tensor(encoded.trained[1:])
        total, count = total - logp[learnt].sum().item(), count + int(learnt.sum())
    assert losses(model, tasks)[0] == pytest.approx(total / count, rel=1e-4)


def test_what_is_asked_together_is_answered_as_alone(home: Workspace, tasks: list[Task], model: torch.nn.Module) -> None:
    speaker = tokenizer(resolve(POCKET, home))
    together = answers(model, speaker, tasks)
    for task, said in zip(tasks, together, strict=True):
        for question, answer in zip(task.questions, said, strict=True):
            assert greedy(model, speaker, question.text).startswith(answer[:30])
    assert sum(share_right(task, said) for task, said in zip(tasks, together, strict=True)) / len(tasks) > 0.8, "the demo model knows them"


def test_right_is_the_same_words() -> None:
    question = Question("double: sun", [1], "Sun sun.")
    assert right(question, " sun  SUN. ") and not right(question, "sun sun") and not right(question, "")
    task = Task("doubles", {}, [question, question])
    assert share_right(task, ["sun sun.", "moon"]) == 0.5 and share_right(Task("x", {}, []), []) is None


def test_what_a_run_with_steps_and_a_mixture_held_back_it_never_trained_on(home: Workspace) -> None:
    data = DataSpec(
        path="messy",
        selectors=["private_data", {"method": "length", "fewest_answer": 3}],
        mix=[{"path": "skill_a"}, {"path": "known", "weight": 0}],
    )
    spec = TrainSpec(data=data, seed=3)
    words = tokenizer(resolve("pocket", home))
    trained = {tuple(row.ids) for row in drain(learning(spec, words, home, 10**6)).train}
    for part in data.parts()[:2]:
        rows = held_out(part, 3, home)
        told = {tuple(row.ids) for row in encode_all(words, rows, "answers", 256) if isinstance(row, Encoded)}
        assert len(told) > 20 and not told & trained


def test_held_out_rows_are_those_that_the_run_never_trained_on(home: Workspace) -> None:
    data = DataSpec(path="skill_a", validation_share=0.2)
    train, validation = split(load("skill_a", home, {}).examples, 0.2, 3)
    assert held_out(data, 3, home) == validation and not set(map(str, train)) & set(map(str, validation))
