"""Pretrain the demo model `assets/pocket/` from scratch on the pocket world, and write its tokenizer.

    python scripts/pretrain_pocket.py [--steps 2600] [--out assets/pocket] [--build build/pocket]
    python benchmarks/pocket.py          # then: scores it, and writes the scores into its model card

A 2.6 M parameter Llama; under an hour on two cores. First it reads documents and conversations, in the last
fifth of the steps conversations alone, always learning only what an assistant says. It resumes from `--build` when it was
interrupted. Fixed seed: the data is the same byte for byte on every machine; the weights differ in their last bits where
the arithmetic does.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from workbench.materials.world.skills import World

SEED, CONTEXT, WINDOW, BATCH, VOCABULARY = 0, 512, 128, 32, 1024
RATE, WARM_UP = 3e-3, 200
TEXTS, TUNED_SHARE, DOCUMENT_SHARE = 400_000, 0.2, 0.12
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{%- else -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
Text = list[tuple[str, bool]]
"""Pieces of one text, and whether the model learns to say them; special tokens are written out."""


def conversation(world: World, rng: random.Random) -> Text:
    """As TEMPLATE writes it."""
    pieces: Text = []
    for message in world.conversation(rng):
        learnt = message["role"] == "assistant"
        pieces += [(f"<|{message['role']}|>", False), (f"{message['content']}<|end|>", learnt)]
    return pieces


def document(world: World, rng: random.Random) -> Text:
    return [(f"{world.document(rng)}<|end|>", True)]


def texts(world: World, rng: random.Random, number: int, documents: float) -> Iterator[Text]:
    for _ in range(number):
        yield (document if rng.random() < documents else conversation)(world, rng)


def train_tokenizer(world: World) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    said = (piece for text in texts(world, random.Random(SEED), 30_000, DOCUMENT_SHARE) for piece, _ in text if not piece.startswith("<|"))
    bpe.train_from_iterator((piece.removesuffix("<|end|>") for piece in said), trainer)
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
            vocab_size=VOCABULARY,
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


def stream(tokenizer: PreTrainedTokenizerFast, world: World, seed: int, number: int, documents: float) -> tuple[torch.Tensor, torch.Tensor]:
    """All texts in one row of tokens, and which of them are learnt."""
    tokens, learnt = [], []
    pieces = [piece for text in texts(world, random.Random(seed), number, documents) for piece in text]
    for start in range(0, len(pieces), 50_000):
        part = pieces[start : start + 50_000]
        ids = tokenizer([said for said, _ in part], add_special_tokens=False)["input_ids"]
        tokens.append(torch.tensor([token for row in ids for token in row], dtype=torch.int16))
        learnt.append(torch.tensor([of for row, (_, of) in zip(ids, part, strict=True) for _ in row]))
    return torch.cat(tokens), torch.cat(learnt)


def rate(step: int, steps: int) -> float:
    """Warm-up, flat, and a straight way down over the last half."""
    return RATE * min(1.0, (step + 1) / WARM_UP, max(0.01, 2 * (1 - step / steps)))


def pretrain(model: LlamaForCausalLM, read: tuple, tuned: tuple, steps: int, build: Path, device: str) -> list[float]:
    """Next-token prediction over random windows of `read`, at the end of `tuned`; the loss of every step."""
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    losses: list[float] = []
    checkpoint = build / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
        print(f"resumed at step {len(losses)}", flush=True)
    started, first = time.time(), len(losses)
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        windows, learnt = batch(*(tuned if step >= steps * (1 - TUNED_SHARE) else read), step, device)
        optimizer.zero_grad()
        loss = loss_of(model, windows, learnt)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            speed = (step + 1 - first) * BATCH * WINDOW / (time.time() - started)
            print(f"step {step + 1}/{steps}  loss {sum(losses[-100:]) / 100:.4f}  {speed:.0f} tokens/s", flush=True)
            save(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses})
    return losses


def batch(tokens: torch.Tensor, learnt: torch.Tensor, step: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED * 1_000_003 + step)
    starts = torch.randint(0, len(tokens) - WINDOW - 1, (BATCH, 1), generator=generator)
    places = starts + torch.arange(WINDOW + 1)
    return tokens[places].long().to(device), learnt[places].to(device)


def loss_of(model: LlamaForCausalLM, windows: torch.Tensor, learnt: torch.Tensor) -> torch.Tensor:
    """Mean loss over the tokens that are learnt; only for those is the head computed."""
    with torch.autocast(windows.device.type, dtype=torch.bfloat16):
        hidden = model.model(windows[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learnt[:, 1:]])
    return torch.nn.functional.cross_entropy(logits.float(), windows[:, 1:][learnt[:, 1:]])


def save(path: Path, state: dict) -> None:
    """Whole or not at all."""
    half = path.with_suffix(".half")
    torch.save(state, half)
    half.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--out", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--build", type=Path, default=Path("build/pocket"))
    parser.add_argument("--compile", action="store_true", help="a quarter faster where there is a C++ compiler")
    given = parser.parse_args()
    given.build.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    world = World(SEED)
    tokenizer = train_tokenizer(world)
    model = build_model(tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    read = stream(tokenizer, world, SEED + 1, TEXTS, DOCUMENT_SHARE)
    tuned = stream(tokenizer, world, SEED + 2, TEXTS // 4, 0)
    share = read[1].float().mean()
    print(f"{parameters / 1e6:.2f} M parameters, {len(read[0]) / 1e6:.1f} M tokens, {share:.0%} of them learnt", flush=True)
    if given.compile:
        model.model.compile()
    losses = pretrain(model, read, tuned, given.steps, given.build, device)

    model.to("cpu", torch.bfloat16).save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)
    facts = {
        "parameters": parameters,
        "device": torch.cuda.get_device_name(0) if device == "cuda" else "CPU",
        "steps": given.steps,
        "compiled": given.compile,
        "tokens": given.steps * BATCH * WINDOW,
        "loss": sum(losses[-100:]) / len(losses[-100:]),
        "torch": torch.__version__,
    }
    (given.out / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
