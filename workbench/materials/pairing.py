"""Which unit of one model stands opposite which unit of another: by their places, or by the least total distance of what they are.

Units are those of `materials/units.py`; x is all that one reads and writes with, or what it says to some tokens, in float64, and two
differ by ‖x_A − x_B‖². Knows no model and no file, nor what becomes of a pair, nor how a model is made to say something.
Tags as in the project's notes: [R] read in the authors' code (Fabian-Mor/partial_fusion_nn), [O] our own form of it.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from workbench.core.errors import WorkbenchError
from workbench.materials.products import AddHere, added_here
from workbench.materials.units import Units

HEADED = ("self_attn.q_proj", "self_attn.o_proj")  # in which each query head of a group has rows of its own
ALIKE = 1e-10  # of the mean ‖x‖²: what is said comes in float32, and a smaller difference of squares tells nobody apart
MOST = 12_000  # units whose distances may be held at once: n·(n + apart) numbers of 8 bytes are 1.2 GB then, 2.3 GB at most

HERE: AddHere = partial(added_here, "")


@dataclass(frozen=True)
class Pairing:
    """Of n units of each model k are pairs, and n − k of each are apart; R query heads a group, and 1 for neurons.

    a, b: (k,) int64, the places of each pair in its models, by their order in the first. heads: (k, R) int64, which query head of b's
    unit stands opposite each of a's. squares: (n,) float64, of every unit of the first model ‖x_A − x_B‖² to its partner; of one that is
    apart to the unit it would have got, the one in its place or the nearest. norm: the root mean square of ‖x‖ over all units of both.
    """

    a: Tensor
    b: Tensor
    heads: Tensor
    squares: Tensor
    norm: float

    def alone(self) -> tuple[Tensor, Tensor]:
        """The places of the units that are apart, in the first model and in the second."""
        return _others(self.a, len(self.squares)), _others(self.b, len(self.squares))

    def opposite(self, module: str, rows: Tensor) -> Tensor:
        """The second model's units of one module, (n, rows of each, hidden), as they stand opposite the first's, k of them."""
        rows, each = rows[self.b], self.heads.shape[1]
        if module not in HEADED or each == 1:
            return rows
        heads = rows.unflatten(1, (each, rows.shape[1] // each))
        return heads[torch.arange(len(rows))[:, None], self.heads].flatten(1, 2)

    def distances(self) -> dict[str, float]:
        """‖x_A − x_B‖ over `norm`: what a tenth of the units is below, their mean, what a tenth is above, and the largest that is still a
        pair (0 where there is none)."""
        far = self.squares.sqrt() / (self.norm or 1.0)
        near, most = far.quantile(far.new_tensor([0.1, 0.9])).tolist()
        return {"near": near, "mean": float(far.mean()), "far": most, "cut": float(far[self.a].max()) if len(self.a) else 0.0}

    def anew(self) -> float:
        """The share of the pairs that do not stand in one place, or whose query heads do not; 0 where there is no pair."""
        moved = (self.a != self.b) | (self.heads != torch.arange(self.heads.shape[1])).any(1)
        return float(moved.double().mean()) if len(self.a) else 0.0


def by_place(a: Units, b: Units, apart: int, heads: int, add: AddHere = HERE) -> Pairing:
    """The j-th with the j-th, but for the `apart` that differ most. Of two that differ equally the earlier one is apart first, so what
    is apart at a smaller number is so at every larger one. `heads`: query heads of a group, 1 for neurons.
    """
    squares = torch.stack([(a[module] - b[module]).square().sum((1, 2)) for module in a]).sum(0)
    together = squares.argsort(descending=True, stable=True)[apart:].sort().values
    return Pairing(together, together, torch.arange(heads).expand(len(together), heads), squares, _norm(a, b))


def by_weights(a: Units, b: Units, apart: int, heads: int, add: AddHere = HERE) -> Pairing:
    """The n − `apart` pairs of least total ‖x_A − x_B‖², exactly; of two groups, in the best order of their query heads.

    An assignment in which each unit of the first model takes one of the second's, or one of `apart` empty places that cost less than
    any; units of the second that nobody takes are apart. It is where the authors' transport with a sink ends, for a whole number of units
    apart [R]: every vertex of that polytope is a partial permutation. (They give each side its empty places and forbid them to meet; a
    rectangle does without half of them.) Groups: for each two the least cost of an order of the query heads, ‖Δq‖² + ‖Δo‖², and to it
    ‖Δk‖² + ‖Δv‖²; within a head nothing moves, as rotary positions tie its rows to their places [O].

    What is apart at a smaller number is so at a larger one here too, unless pairings tie; the partners of the others may change. The
    distances come from one matrix product, exact to about 1e-16 of ‖x‖². Memory is n·(n + apart) numbers. Time is that of the product
    where most units have a near one, in whatever order; between strangers it is n³ (a minute for n = 3,000, with a quarter apart).
    """
    return _nearest(a, b, apart, heads, 0.0, add)


def by_activations(a: Units, b: Units, apart: int, heads: int, add: AddHere = HERE) -> Pairing:
    """As `by_weights`, of what the units say to S tokens: (units, rows of each, S), of a query head as many rows as it has numbers [R].

    Key and value heads say nothing of their own: of two groups there is only the best order of their query heads [O]. Some units are not
    told apart by what they say, as those that are silent at every token. Of pairings that cost the same but for n·`ALIKE` of the mean ‖x‖²,
    that one is taken in which most units, and query heads, stand opposite the one in their place [O].
    """
    return _nearest(a, b, apart, heads, ALIKE * (_norm(a, b) ** 2 or 1.0), add)


PAIRINGS = {"place": by_place, "weights": by_weights, "activations": by_activations}


def check_room(match: str, units: int) -> None:
    """A `WorkbenchError` where the distances of so many units would not fit into memory."""
    if match != "place" and units > MOST:
        raise WorkbenchError(
            f"A block has {units:,} neurons, and matching by {match} takes {MOST:,} at most: it holds the distances of all to all in "
            f"memory, here {8 * units**2 / 1e9:.1f} GB. Set match to place, which is right for models that were tuned from one base."
        )


def _nearest(a: Units, b: Units, apart: int, heads: int, move: float, add: AddHere) -> Pairing:
    """The pairs of least total cost; `move` is what it costs beside the distance to leave one's place."""
    count = len(next(iter(a.values())))
    costs = torch.zeros(count, count + apart, dtype=torch.float64)
    within = costs[:, :count]
    for module in a:
        if heads == 1 or module not in HEADED:
            _add_distances(within, a[module], b[module], add)
    orders = _add_heads(within, a, b, heads, move, add)
    within.clamp_(min=0)  # a product may fall short of 0 in its last digit
    squares = within.min(1).values
    _add_move(within, move)
    taken = _assigned(costs, squares)
    del costs, within
    together = (taken < count).nonzero().flatten()
    pairs = Pairing(together, taken[together], orders[together, taken[together]], squares, _norm(a, b))
    exact = [(a[module][together] - pairs.opposite(module, b[module])).square().sum((1, 2)) for module in a]
    squares[together] = torch.stack(exact).sum(0)
    return pairs


def _assigned(costs: Tensor, nearest: Tensor) -> Tensor:
    """(n,) int64: the column of each row of (n, n + apart) costs, so that the last columns are all taken and the total of the others is
    least. `nearest`: of each row the least cost in the first n.

    What an empty place costs does not matter as long as all of them are taken, but the solver is slow where many rows want them. At a
    price below the least cost of `apart` rows those rows want them; should that fail for ties, one below all costs does not.
    """
    from scipy.optimize import linear_sum_assignment  # takes long to import, and nothing else needs it

    count, apart = len(costs), costs.shape[1] - len(costs)
    price = float(nearest.sort().values[min(count - apart, count - 1)]) * (1 - 1e-9)
    for empty in (price, -float(costs.max()) or -1.0):
        costs[:, count:] = empty
        taken = torch.from_numpy(linear_sum_assignment(costs.numpy())[1])
        if int((taken >= count).sum()) == apart:
            break
    return taken


def _add_heads(within: Tensor, a: Units, b: Units, heads: int, move: float, add: AddHere) -> Tensor:
    """(n, n, heads) int64: of each two groups which query head of b's stands opposite each of a's; what it costs is added to `within`."""
    from scipy.optimize import linear_sum_assignment

    count = len(within)
    if heads == 1:
        return torch.zeros(1, dtype=torch.int64).expand(count, count, 1)
    orders = torch.empty(count, count, heads, dtype=torch.int64)
    costs = torch.zeros(count * heads, count * heads, dtype=torch.float64)
    for module in (name for name in HEADED if name in a):
        _add_distances(costs, *(units[module].reshape(count * heads, -1) for units in (a, b)), add)
    blocks = costs.view(count, heads, count, heads).transpose(1, 2)
    for one in range(count):
        for other in range(count):
            own = blocks[one, other]
            order = torch.from_numpy(linear_sum_assignment(_add_move(own.clone(), move).numpy())[1])
            orders[one, other] = order
            within[one, other] += own[torch.arange(heads), order].sum()
    return orders


def _add_move(costs: Tensor, move: float) -> Tensor:
    """(n, n) costs, in place: `move` more wherever the two do not stand in one place."""
    costs.add_(move).diagonal().sub_(move)
    return costs


def _add_distances(costs: Tensor, a: Tensor, b: Tensor, add: AddHere) -> None:
    """Add to (n, n) costs ‖a_i − b_j‖² of what the units have in one module."""
    a, b = a.flatten(1), b.flatten(1)
    add(costs, a, b.T, -2)
    costs.add_(a.square().sum(1)[:, None]).add_(b.square().sum(1))


def _norm(a: Units, b: Units) -> float:
    squares = [float(rows.square().sum()) for units in (a, b) for rows in units.values()]
    return (sum(squares) / (2 * len(next(iter(a.values()))))) ** 0.5


def _others(places: Tensor, count: int) -> Tensor:
    left = torch.ones(count, dtype=torch.bool)
    left[places] = False
    return left.nonzero().flatten()
