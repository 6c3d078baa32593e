"""What makes a folder of merged weights a model: config, tokenizer, the recipe, and a card that says how it was made."""

import json
import shutil
from pathlib import Path

from workbench.core.mergekit import to_kit
from workbench.core.varied import Varied
from workbench.jobs.ingredients import Recipe

SIDE_FILES = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def write_side_files(recipe: Recipe, folder: Path, config: dict[str, object] | None = None) -> None:
    """What makes a folder of weights a model: tokenizer, generation settings, the recipe, a card; config.json comes last."""
    for name in SIDE_FILES:
        if (recipe.folder / name).exists():
            shutil.copyfile(recipe.folder / name, folder / name)
    (folder / "merge.yaml").write_text(recipe.spec.to_yaml(), encoding="utf-8")
    models = {place: given.weight for place, given in zip(recipe.places[1:], recipe.spec.models, strict=True)}
    numbers = None if recipe.spec.dtype == "as base" else recipe.spec.dtype
    kit = to_kit(recipe.method, recipe.spec.vary, recipe.places[0], models, numbers)
    if kit:
        (folder / "mergekit_config.yml").write_text(kit, encoding="utf-8")
    (folder / "README.md").write_text(_card(recipe), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config or config_of(recipe), indent=2) + "\n", encoding="utf-8")


def config_of(recipe: Recipe) -> dict[str, object]:
    config = dict(recipe.base.config)
    if recipe.spec.dtype != "as base":
        config.pop("torch_dtype", None)  # the name of older versions of transformers
        config["dtype"] = recipe.spec.dtype
    if recipe.base.has_head:
        config["tie_word_embeddings"] = False  # the head has its own tensor now, whatever the base's config said
    return config


def _card(recipe: Recipe) -> str:
    rows = "\n".join(f"| {member.label} | {_share(given.weight)} |" for member, given in zip(recipe.tuned, recipe.spec.models, strict=True))
    knobs = ", ".join(f"{name} = {value}" for name, value in {**recipe.method.model_dump(), **recipe.spec.vary}.items())
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [merge]\n---\n\n# {recipe.spec.name}\n\n"
        f"Merged with Finetune Workbench by [{recipe.method.title()}]({recipe.method.link()}) ({knobs or 'no knobs'}) on the base "
        f"{recipe.base.label}.\n\n| model | weight |\n|---|---|\n{rows}\n\n"
        "`merge.yaml` beside this file is the whole recipe, enough to do it again. Where mergekit has the method, `mergekit_config.yml` is "
        "the same for it.\n"
    )


def _share(weight: Varied) -> str:
    return f"{weight:g}" if isinstance(weight, int | float) else str(weight)
