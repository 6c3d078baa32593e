"""What tests share: a pico Llama and its tokenizer made in memory, a workspace in a temporary folder. Nothing is downloaded."""

import atexit
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported: it would knock at a network that may not answer for a minute

import pytest
import torch
from hypothesis import settings
from pico import make_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core import environment
from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.materials.world.skills import World

environment.tell()  # as every program of ours does
discover()  # every battery runs over the whole registry
# pytest's summary has the last word: DuckDB's bindings list on stderr what lives on when the interpreter ends
atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)
settings.register_profile("calm", deadline=None, derandomize=True, database=None)  # a busy machine is no failure
settings.load_profile("calm")
torch.set_num_threads(1)  # pico models gain nothing from more, and lose much on a busy machine

TEMPLATE = (
    "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Side by side a file's tests stay together, and all of the browser's: they tell one story on one server."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "browser" if nodeid.startswith("tests/browser/") else nodeid.partition("::")[0]

    config.option.loadscopereorder = False  # the browser's takes longest and is collected first
    return Files(config, log)


@pytest.fixture
def pico_model() -> LlamaForCausalLM:
    return make_model()


@pytest.fixture(scope="session")
def pico_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens trained on the pocket world, with a chat template."""
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    rows = World().rows("facts", 100, seed=0, held_out=False)
    texts = [f"{row.prompt} {row.answer}" for row in rows]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=special[2:]
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def pico_folder(tmp_path: Path, pico_model: LlamaForCausalLM, pico_tokenizer: PreTrainedTokenizerFast) -> Path:
    """The pico model and its tokenizer as a model folder."""
    folder = tmp_path / "pico"
    pico_model.save_pretrained(folder)
    pico_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def pico_batch() -> dict[str, torch.Tensor]:
    """(4, 12) tokens; the first three positions and two ends are not learnt."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 400, (4, 12), generator=generator)
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :3], labels[0, 10:], mask[0, 10:] = -100, -100, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
