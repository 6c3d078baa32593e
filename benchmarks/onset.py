"""From which r on a step does harm: small classifiers pushed along the gradient and along random directions.

    python benchmarks/onset.py [--seeds 3]

The paper's kind of networks (arXiv:2603.13552, figure of the phase transition): ten Gaussian classes in 32 dimensions, trained until
they are right. From there one step in a direction, longer and longer; r is its length over the radius ρ_a, with the widest spread of
1,000 examples' logits along it. Harm is an accuracy more than 5 points lower. The claim: no collapse below r = 1, which is a
boundary of reliability and not the place of a cliff. Written to `benchmarks/results/onset.json`.
"""

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "onset.json"
CLASSES, WIDTH, HIDDEN, EXAMPLES = 10, 32, 64, 1000
RATIOS = [10 ** (-1 + 3 * place / 60) for place in range(61)]  # 0.1 to 100
DROP = 0.05  # of accuracy
RANDOM = 8  # random directions beside the gradient's
Named = dict[str, Tensor]


class Transformer(nn.Module):
    """Eight tokens of four numbers each, one encoder layer, the mean to the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 32)
        self.place = nn.Parameter(0.1 * torch.randn(8, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x.unflatten(1, (8, 4))) + self.place).mean(1))


def mlp(activation: Callable[[], nn.Module], norm: bool = False) -> nn.Module:
    def block(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, HIDDEN), *([nn.LayerNorm(HIDDEN)] if norm else []), activation()]

    return nn.Sequential(*block(WIDTH), *block(HIDDEN), nn.Linear(HIDDEN, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(WIDTH, CLASSES),
    "MLP, GELU": lambda: mlp(nn.GELU),
    "MLP, ReLU": lambda: mlp(nn.ReLU),
    "MLP, LayerNorm": lambda: mlp(nn.GELU, norm=True),
    "transformer": Transformer,
}


def data(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 1.2 * torch.randn(CLASSES, WIDTH, generator=generator)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    return centres[labels] + torch.randn(EXAMPLES, WIDTH, generator=generator), labels


def trained(make: Callable[[], nn.Module], seed: int, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(seed)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


def directions(network: nn.Module, x: Tensor, y: Tensor, seed: int) -> Iterator[tuple[str, Named]]:
    """The gradient's direction downhill, and random ones, each of length 1."""
    network.zero_grad()
    nn.functional.cross_entropy(network(x), y).backward()
    yield "gradient", unit({name: -parameter.grad for name, parameter in network.named_parameters()})
    generator = torch.Generator().manual_seed(seed)
    for _ in range(RANDOM):
        yield "random", unit({name: torch.randn(parameter.shape, generator=generator) for name, parameter in network.named_parameters()})


def unit(direction: Named) -> Named:
    length = torch.stack([part.norm() for part in direction.values()]).norm()
    return {name: part / length for name, part in direction.items()}


def onset(network: nn.Module, direction: Named, x: Tensor, y: Tensor) -> float:
    """The smallest r at which accuracy has dropped; infinite if it has not up to the last."""
    at = {name: parameter.detach() for name, parameter in network.named_parameters()}
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        _, slope = jvp(lambda parameters: functional_call(network, parameters, x), (at,), (direction,))
        radius = math.pi / (slope.max(1).values - slope.min(1).values).max().item()
        first = accuracy(network(x), y)
        for ratio in RATIOS:
            moved = {name: at[name] + ratio * radius * part for name, part in direction.items()}
            if accuracy(functional_call(network, moved, x), y) < first - DROP:
                return ratio
    return math.inf


def accuracy(logits: Tensor, y: Tensor) -> float:
    return (logits.argmax(1) == y).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    torch.backends.mha.set_fastpath_enabled(False)  # its kernel has no derivative
    seeds = range(parser.parse_args().seeds)
    rows = []
    print(f"{'network':<16}{'direction':<11}{'r of harm, median':>18}{'least':>8}{'below 1':>9}")
    for name, make in NETWORKS.items():
        found: dict[str, list[float]] = {"gradient": [], "random": []}
        for seed in seeds:
            x, y = data(seed)
            network = trained(make, seed, x, y)
            for kind, direction in directions(network, x, y, seed):
                found[kind].append(onset(network, direction, x, y))
        for kind, onsets in found.items():
            middle, least, below = statistics.median(onsets), min(onsets), sum(value < 1 for value in onsets)
            print(f"{name:<16}{kind:<11}{middle:>18.3g}{least:>8.3g}{below:>9}", flush=True)
            row = {"network": name, "direction": kind, "cases": len(onsets), "collapses_below_1": below}
            rows.append({**row, **{key: value if math.isfinite(value) else None for key, value in (("median", middle), ("least", least))}})
    about = {"date": str(date.today()), "machine": platform.machine(), "torch": torch.__version__, "seeds": len(seeds), "drop": DROP}
    RESULT.write_text(json.dumps({**about, "note": "null: no harm up to r = 100", "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
