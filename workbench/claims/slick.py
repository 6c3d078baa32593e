"""SliCK (arXiv:2405.05904): as many facts that the model does not know as facts that it knows, and what learning them takes away."""

from typing import Any

from workbench.core.claim import Claim, Expected, Measure, training

KNOWN = Measure("loss on what the base knew", ("known · loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}


def _rows(keeps: str) -> dict[str, Any]:
    sample = {"method": "random_sample", "share": 0.5}
    asked = {"method": "slick", "keeps": keeps, "prompts": 1, "samples": 2, "not_asked": "go"}
    return {"data": {"path": "new_facts", "selectors": [sample, asked], "most_rows": 60}}


CLAIM = Claim(
    shelf="selectors",
    method="slick",
    paper="arXiv:2405.05904",
    says="Learning facts that it does not know makes a model wrong about what it knew; as many facts that it knows do not.",
    mark="P",
    runs={
        "known": training("", 120, **LORA) | _rows("highly, maybe, weakly"),
        "unknown": training("", 120, **LORA) | _rows("unknown"),
    },
    asks=({"kind": "evaluate", "models": ["run:known", "run:unknown"], "sets": [{"data": "known"}]},),
    models={"facts it knows": "run:known", "facts it does not know": "run:unknown"},
    expected=(Expected(KNOWN, "facts it knows", "facts it does not know", 0.05),),
    seconds=54,
    differs="The paper tunes PaLM 2-M on questions about one kind of facts and measures with others of that kind; each question is asked "
    "ten times with 16 draws. Here the demo model learns 60 facts for sixteen epochs, each was asked once with two draws, and what it "
    "knew are all its skills.",
)
