"""What makes a folder of merged weights a model or an adapter: config, tokenizer, the recipe, and a card that says how it was made."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from workbench.core.mergekit import to_kit
from workbench.core.parts import Slice
from workbench.core.varied import Varied
from workbench.jobs.ingredients import Recipe

SIDE_FILES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_side_files(recipe: Recipe, folder: Path, config: dict[str, object] | None = None) -> None:
    """What makes a folder of weights a model: tokenizer, generation settings, the recipe, a card; config.json comes last."""
    _write_common(recipe, folder)
    kit = _kit(recipe)
    if kit:
        (folder / "mergekit_config.yml").write_text(kit, encoding="utf-8")
    kind = "library_name: transformers\npipeline_tag: text-generation\ntags: [merge]"
    more = "Where mergekit has the method, `mergekit_config.yml` is the same for it."
    (folder / "README.md").write_text(_card(recipe, kind, more), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config or config_of(recipe), indent=2) + "\n", encoding="utf-8")


def write_adapter_files(recipe: Recipe, folder: Path, ranks: Mapping[str, int]) -> None:
    """What makes a folder of factors a peft adapter; adapter_config.json comes last. `ranks`: by module; alpha is the rank of each."""
    _write_common(recipe, folder)
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {module: rank for module, rank in ranks.items() if rank != usual}
    base = str(recipe.folder.resolve())
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": usual, "lora_alpha": usual, "rank_pattern": others, "alpha_pattern": others, "target_modules": list(ranks),
        "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "modules_to_save": None,
    }  # fmt: skip
    more = f"It is a LoRA adapter: `PeftModel.from_pretrained(model, folder)` puts it on the base, which lies in `{base}`."
    kind = "library_name: peft\npipeline_tag: text-generation\ntags: [merge, lora]"
    (folder / "README.md").write_text(_card(recipe, kind, more), encoding="utf-8")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_common(recipe: Recipe, folder: Path) -> None:
    for name in SIDE_FILES:
        if (recipe.folder / name).exists():
            shutil.copyfile(recipe.folder / name, folder / name)
    if recipe.vocabulary:
        recipe.vocabulary.write(folder)
    (folder / "merge.yaml").write_text(recipe.spec.to_yaml(), encoding="utf-8")


def _kit(recipe: Recipe) -> str | None:
    """The recipe as mergekit's YAML, None where it has no such merge."""
    models = list(zip(recipe.places[1:], (given.weight for given in recipe.spec.models), strict=True))
    numbers = None if recipe.spec.dtype == "as base" else recipe.spec.dtype
    told = None if recipe.spec.tokenizer == "same" else recipe.spec.tokenizer
    if told == "union" and not recipe.method.kit_base and recipe.places[0] != recipe.places[1]:
        return None  # it would begin with the tokens of the first model
    if recipe.vocabulary and told != "union" and (told != "base" or not recipe.method.kit_base):
        told = str(recipe.vocabulary.folder)
    if recipe.layout is None:
        return to_kit(recipe.method, recipe.spec.vary, recipe.places[0], models, numbers, tokenizer=told)
    slices = [(given.layers, takers) for given, takers in zip(recipe.spec.stack, recipe.layout.takers, strict=True)]
    return to_kit(recipe.method, recipe.spec.vary, recipe.places[0], models, numbers, slices, told) if recipe.layout.plain else None


def config_of(recipe: Recipe) -> dict[str, object]:
    config = dict(recipe.base.config)
    if recipe.spec.dtype != "as base":
        config.pop("torch_dtype", None)  # the name of older versions of transformers
        config["dtype"] = recipe.spec.dtype
    if recipe.vocabulary:
        config["vocab_size"] = recipe.vocabulary.size
        config |= {name: recipe.vocabulary.config[name] for name in SPECIAL if name in recipe.vocabulary.config}
    if recipe.base.has_head:
        config["tie_word_embeddings"] = False  # the head has its own tensor now, whatever the base's config said
    return config


def _card(recipe: Recipe, kind: str, more: str) -> str:
    labels = [member.label for member in recipe.tuned]
    rows = "\n".join(f"| {label} | {_share(given.weight)} |" for label, given in zip(labels, recipe.spec.models, strict=False))
    method, link = recipe.method.title(), recipe.method.link()
    title = f"[{method}]({link})" if link else method
    knobs = ", ".join(f"{name} = {value}" for name, value in {**recipe.method.model_dump(), **recipe.spec.vary}.items())
    slices = recipe.layout.takers if recipe.layout else ()
    stack = [_sliced(given, [labels[place] for place in takers]) for given, takers in zip(recipe.spec.stack, slices, strict=True)]
    layers = f"Its layers, one on top of the other:\n\n| layers | of |\n|---|---|\n{''.join(stack)}\n" if stack else ""
    return (
        f"---\n{kind}\n---\n\n# {recipe.spec.name}\n\n"
        f"Merged with Finetune Workbench by {title} ({knobs or 'no knobs'}) on the base "
        f"{recipe.base.label}.\n\n| model | weight |\n|---|---|\n{rows}\n\n{layers}"
        f"`merge.yaml` beside this file is the whole recipe, enough to do it again. {more}\n"
    )


def _sliced(given: Slice, labels: list[str]) -> str:
    first, stop = given.layers
    return f"| {first} to {stop - 1} | {', '.join(labels)} |\n"


def _share(weight: Varied) -> str:
    return f"{weight:g}" if isinstance(weight, int | float) else str(weight)
