"""Pretrain the demo model `assets/pocket/` from scratch on the pocket world, and write its tokenizer and model card.

    python scripts/pretrain_pocket.py [--steps 2600] [--stop STEP] [--out assets/pocket] [--build build/pocket]

A 2.8 M parameter Llama; about forty minutes on two cores. It resumes from `--build` when it was interrupted. Fixed seed:
the data is the same byte for byte on every machine; the weights differ in their last bits where the arithmetic does.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from workbench.materials.world import KNOWN, World

SEED, CONTEXT, WINDOW, BATCH = 0, 512, 128, 32
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{%- else -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def train_tokenizer(conversations: list[list[dict]]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    texts = (message["content"] for conversation in conversations for message in conversation)
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=2048, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        model_max_length=CONTEXT,
        additional_special_tokens=SPECIAL[2:],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=2048,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            tie_word_embeddings=True,
            max_position_embeddings=CONTEXT,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_stream(tokenizer: PreTrainedTokenizerFast, conversations: list[list[dict]]) -> torch.Tensor:
    texts = [tokenizer.apply_chat_template(conversation, tokenize=False) for conversation in conversations]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return torch.tensor([token for row in ids for token in row])


def pretrain(model: LlamaForCausalLM, stream: torch.Tensor, steps: int, stop: int, build: Path) -> list[float]:
    """Next-token prediction over random windows of the stream, up to step `stop` of a schedule of `steps`; the loss of every step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    losses: list[float] = []
    checkpoint = build / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
        print(f"resumed at step {len(losses)}", flush=True)
    started, first = time.time(), len(losses)
    for step in range(first, stop):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 100) * max(0.02, 1 - step / steps)
        generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
        starts = torch.randint(0, len(stream) - WINDOW - 1, (BATCH,), generator=generator)
        windows = torch.stack([stream[start : start + WINDOW + 1] for start in starts])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(windows[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            speed = (step + 1 - first) * BATCH * WINDOW / (time.time() - started)
            print(f"step {step + 1}/{steps}  loss {sum(losses[-100:]) / 100:.3f}  {speed:.0f} tokens/s", flush=True)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}, checkpoint)
    return losses


@torch.no_grad()
def exact_match(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, skill: str, number: int) -> float:
    """Share of held-out prompts whose greedy answer is the right one, to the letter."""
    model.eval()
    right = 0
    rows = world.rows(skill, number, seed=99, held_out=True)
    for row in rows:
        ids = tokenizer.apply_chat_template(row.messages()[:1], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
        right += tokenizer.decode(answer, skip_special_tokens=True).strip() == row.answer
    return right / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--stop", type=int, default=0, help="end early, at this step of the schedule")
    parser.add_argument("--out", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--build", type=Path, default=Path("build/pocket"))
    arguments = parser.parse_args()
    arguments.build.mkdir(parents=True, exist_ok=True)

    world, rng = World(SEED), random.Random(SEED)
    conversations = [world.pretraining(rng) for _ in range(150_000)]
    tokenizer = train_tokenizer(conversations[:30_000])
    model = build_model(tokenizer)
    stream = token_stream(tokenizer, conversations)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(stream) / 1e6:.1f} M tokens", flush=True)
    losses = pretrain(model, stream, arguments.steps, arguments.stop or arguments.steps, arguments.build)

    model.to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    model = AutoModelForCausalLM.from_pretrained(arguments.out, dtype=torch.float32)
    scores = {skill: exact_match(model, tokenizer, world, skill, 60) for skill in ("facts", "addition", "words", "tale", "doubles")}
    (arguments.out / "README.md").write_text(model_card(parameters, arguments.steps, losses, scores))
    print(json.dumps(scores))


def model_card(parameters: int, steps: int, losses: list[float], scores: dict[str, float]) -> str:
    rows = "\n".join(f"| {skill} | {'known' if skill in KNOWN else 'new'} | {100 * score:.0f} % |" for skill, score in scores.items())
    return f"""---
license: apache-2.0
---
# Pocket

A Llama of {parameters / 1e6:.2f} M parameters (6 layers, width 192, 6 query and 3 key/value heads, SwiGLU 512, tied embeddings,
2,048 byte-level BPE tokens, context {CONTEXT}), pretrained from scratch by `scripts/pretrain_pocket.py` on the invented world
of `workbench/materials/world.py`. It knows that world, adds numbers below 30 and works with short lists of words. It knows nothing else.

Trained on CPU, seed {SEED}: {len(losses):,} of the schedule's {steps:,} steps of {BATCH} × {WINDOW} tokens
({len(losses) * BATCH * WINDOW / 1e6:.1f} M tokens), AdamW 3e-3, bf16 autocast. Training loss of the last 100 steps:
{sum(losses[-100:]) / len(losses[-100:]):.3f} nats per token. Command:
`python scripts/pretrain_pocket.py --steps {steps} --stop {len(losses)}`.

Exact match of the greedy answer on 60 held-out prompts each (bf16 weights, run in fp32):

| skill | | exact match |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
