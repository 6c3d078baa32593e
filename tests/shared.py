"""The fixtures of every test: a pico Llama and its tokenizer made in memory, a workspace in a temporary folder. Nothing is downloaded.

A module of its own and not `conftest.py`, because that is read by the process, too, which hands the tests out and needs none of them.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings
from pico import make_batch, make_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from workbench.core.method import discover
from workbench.core.workspace import Workspace
from workbench.materials.world.skills import World

discover()  # every battery runs over the whole registry
settings.register_profile("calm", deadline=None, derandomize=True, database=None)  # a busy machine is no failure
settings.load_profile("calm")
torch.set_num_threads(1)  # pico models gain nothing from more, and lose much on a busy machine

TEMPLATE = (
    "{%- for message in messages -%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


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


class Saved(NamedTuple):
    """A model folder that was written once, and where chance stood then; tests take copies, which cost less than models."""

    folder: Path
    chance: torch.Tensor

    def copy(self, to: Path) -> Path:
        """All is as if the model had been made there now."""
        torch.set_rng_state(self.chance)
        return shutil.copytree(self.folder, to)


@pytest.fixture(scope="session")
def saved_pico(tmp_path_factory: pytest.TempPathFactory, pico_tokenizer: PreTrainedTokenizerFast) -> Saved:
    folder = tmp_path_factory.mktemp("pico")
    make_model().save_pretrained(folder)
    pico_tokenizer.save_pretrained(folder)
    return Saved(folder, torch.get_rng_state())


@pytest.fixture
def pico_folder(tmp_path: Path, saved_pico: Saved) -> Path:
    """The pico model and its tokenizer as a model folder that is the test's own."""
    return saved_pico.copy(tmp_path / "pico")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def pico_batch() -> dict[str, torch.Tensor]:
    """(4, 12) tokens; the first three positions and two ends are not learnt."""
    return make_batch()
