"""NEFTune (arXiv:2310.05914): few rows learnt for many epochs, with and without noise on what is read."""

from workbench.core.claim import Claim, Expected, Measure, training

LOSS = Measure("validation loss", ("validation_loss",))
LORA = {"adapter": {"method": "lora", "rank": 16}, "update": {"method": "adamw", "lr": 2e-3}}
FEW = {"data": {"path": "quickstart", "most_rows": 64}}
NOISE = {"noisy": 5.0, "plain": 0.0}

CLAIM = Claim(
    shelf="noises",
    method="neftune",
    paper="arXiv:2310.05914",
    says="Uniform noise on the embeddings makes a model learn its rows less closely, and do better on rows that it has not seen.",
    mark="P",
    runs={name: training("", 80, noises=[{"method": "neftune", "alpha": alpha}], **LORA) | FEW for name, alpha in NOISE.items()},
    models={"NEFTune": "run:noisy", "no noise": "run:plain"},
    expected=(Expected(LOSS, "NEFTune", "no noise"),),
    seconds=48,
    differs="The paper tunes far larger models on instructions and has their answers judged; that the loss on unseen rows is lower stands "
    "beside it. Here the demo model learns to answer like a storyteller from 64 rows, in ten epochs, with noise of α = 5, the "
    "smallest of the paper's.",
)
