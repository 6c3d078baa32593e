"""Answers that rows bring: the log-probabilities are those of the model, and what is likeliest all along is what it generates."""

import torch
from transformers import LlamaForCausalLM

from workbench.materials.answered import excerpt, judged


def test_the_mean_is_over_the_tokens_that_are_learnt(pico_model: LlamaForCausalLM, pico_batch: dict[str, torch.Tensor]) -> None:
    found, _ = judged(pico_model, pico_batch)
    with torch.no_grad():
        table = pico_model(input_ids=pico_batch["input_ids"], attention_mask=pico_batch["attention_mask"]).logits.log_softmax(-1)
    for row, labels in enumerate(pico_batch["labels"].tolist()):
        own = [float(table[row, place - 1, token]) for place, token in enumerate(labels) if place and token >= 0]
        assert abs(float(found[row]) - sum(own) / len(own)) < 1e-5


def test_an_answer_is_right_where_it_is_what_the_model_generates(pico_model: LlamaForCausalLM) -> None:
    prompt = torch.tensor([[7, 9, 11]])
    said = pico_model.generate(prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0)
    other = said.clone()
    other[0, -1] = (other[0, -1] + 1) % 400
    ids = torch.cat([said, other])
    labels = ids.clone()
    labels[:, :3] = -100
    _, right = judged(pico_model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    assert right.tolist() == [1.0, 0.0]


def test_an_excerpt_is_one_line_of_at_most_so_many_letters() -> None:
    assert excerpt("  two\n words ") == "two words"
    assert len(excerpt("letters " * 50, 20)) <= 20 and excerpt("letters " * 50, 20).endswith("…")
