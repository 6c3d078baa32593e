"""The card of an export: what lies in the folder, where it comes from, and how it is loaded here and in other tools.

What it is: text from counts. What it is not: it writes no file (`exporting.py`). What the other tools want is as their code and docs say
(LLaMA-Factory's data/README.md, axolotl's docs/dataset-formats and docs/rlhf, TRL's dataset formats) [R].
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workbench.core.words import count, size
from workbench.materials.writers import FORMS

CHAT_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
FACTORY: dict[str, dict[str, Any]] = {
    "messages": {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": CHAT_TAGS},
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "alpaca": {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}},
    "prompt_completion": {"columns": {"prompt": "prompt", "response": "completion"}},
    "text": {"columns": {"prompt": "text"}},
}
AXOLOTL = {
    "messages": "type: chat_template\n    field_messages: messages\n    message_field_training: train",
    "sharegpt": "type: chat_template\n    field_messages: conversations\n"
    "    message_property_mappings: {role: from, content: value}\n    message_field_training: train",
    "alpaca": "type: alpaca",
    "prompt_completion": "type: {field_instruction: prompt, field_output: completion, "
    "format: '{instruction}', no_input_format: '{instruction}'}",
    "text": "type: completion",
    "segments": "type: input_output",
}
TRAINERS = {"preference": "DPOTrainer", "text": "SFTTrainer", "messages": "SFTTrainer", "prompt_completion": "SFTTrainer"}
LISTED = 20  # licences and reasons that are named


@dataclass(frozen=True)
class Written:
    """What was written: `licences` counts the rows that are there, `hashes` holds (bytes, SHA-256) by file, `told` what to know of it."""

    name: str
    form: str
    rows: int
    refused: int
    reasons: Mapping[str, int]
    formats: Mapping[str, int]
    licences: Mapping[str, int]
    hashes: Mapping[str, tuple[int, str]]
    told: Sequence[str]

    @property
    def place(self) -> str:
        return FORMS[self.form].file


def llama_factory(written: Written) -> dict[str, Any] | None:
    """The entry of LLaMA-Factory's dataset_info.json; None where it cannot read the form as it is."""
    known = FACTORY.get(written.form)
    return {written.name: {"file_name": written.place, **known}} if known else None


def card(written: Written, about: Mapping[str, Any]) -> str:
    """README.md, with the head that the Hugging Face hub reads."""
    parts = [_head(written), f"# {about.get('name') or written.name}\n", _counts(written), _steps(about), _licences(written)]
    return "\n".join(part for part in [*parts, _files(written), _loading(written)] if part)


def _head(written: Written) -> str:
    one = len(written.licences) == 1 and sum(written.licences.values()) == written.rows - written.refused  # of all the rows
    licence = f"license: {json.dumps(next(iter(written.licences)))}\n" if one else ""
    files = f"configs:\n- config_name: default\n  data_files: {written.place}\n" if "." in written.place else ""
    return f"---\n{licence}{files}tags: [finetune-workbench]\n---\n"


def _counts(written: Written) -> str:
    taken = written.rows - written.refused
    lines = [f"{count(taken, 'row')}, {FORMS[written.form].about}; written by Finetune Workbench on {datetime.now():%Y-%m-%d}.\n"]
    rows = [("rows given", written.rows), ("rows written", taken), ("rows left out", written.refused)]
    rows += [(f"given as {name}", number) for name, number in written.formats.items()]
    lines.append(_table(("what", "how many"), [(what, f"{number:,}") for what, number in rows]))
    if written.refused:
        reasons = sorted(written.reasons.items(), key=lambda item: -item[1])[:LISTED]
        lines.append("Left out, because the form cannot say them as they are:\n")
        lines.append(_table(("the row …", "how many"), [(reason, f"{number:,}") for reason, number in reasons]))
    return "\n".join([*lines, *(f"{sentence}\n" for sentence in written.told)])


def _steps(about: Mapping[str, Any]) -> str:
    rest = [(name, _plain(value)) for name, value in about.items() if name not in ("name", "steps") and value not in (None, "", [], {})]
    facts = f"## Where it comes from\n\n{_table(('what', 'which'), rest)}" if rest else ""
    steps = "".join(f"{number}. {_plain(step)}\n" for number, step in enumerate(about.get("steps") or (), start=1))
    return f"{facts}\n## Steps\n\n{steps}" if steps and facts else f"## Steps\n\n{steps}" if steps else facts


def _licences(written: Written) -> str:
    if not written.licences:
        return ""
    most = sorted(written.licences.items(), key=lambda item: -item[1])
    more = f"\n{len(most) - LISTED:,} more.\n" if len(most) > LISTED else ""
    return f"## Licences\n\n{_table(('licence', 'rows'), [(name, f'{number:,}') for name, number in most[:LISTED]])}{more}"


def _files(written: Written) -> str:
    rows = [(f"`{name}`", size(length), f"`{digest}`") for name, (length, digest) in written.hashes.items()]
    return f"## Files\n\n{_table(('file', 'size', 'SHA-256'), rows)}"


def _loading(written: Written) -> str:
    ours = f"python -m workbench data ingest {written.place} --name {written.name}"
    parts = ["## How to load it\n", f"Finetune Workbench:\n\n```sh\n{ours}\n```\n"]
    stub = llama_factory(written)
    if stub:
        parts.append(
            "LLaMA-Factory: `dataset_info.json` beside this file describes it; give this folder as `dataset_dir` and "
            f"`dataset: {written.name}`, or put this into the one you have:\n\n```json\n{json.dumps(stub, indent=2)}\n```\n"
        )
    if written.form in AXOLOTL:
        parts.append(f"axolotl:\n\n```yaml\ndatasets:\n  - path: {written.place}\n    ds_type: json\n    {AXOLOTL[written.form]}\n```\n")
    if written.form == "preference":
        parts.append("LLaMA-Factory and axolotl want the answers of pairs as one turn each; TRL reads them as they are here.\n")
    return "\n".join([*parts, _datasets(written)])


def _datasets(written: Written) -> str:
    if written.form == "datasets":
        load = f'from datasets import load_from_disk\n\nrows = load_from_disk("{written.place}")'
    else:
        kind = {"data.parquet": "parquet", "data.csv": "csv"}.get(written.place, "json")
        load = f'from datasets import load_dataset\n\nrows = load_dataset("{kind}", data_files="{written.place}", split="train")'
    trainer = TRAINERS.get(written.form)
    if trainer is None:
        return f"datasets:\n\n```python\n{load}\n```\n"
    return f"TRL:\n\n```python\n{load}\n\nfrom trl import {trainer}\n\n{trainer}(model, train_dataset=rows).train()\n```\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return " ".join(text.split())
