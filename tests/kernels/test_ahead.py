"""Every kernel builds for A100 and H100 without a GPU: nothing spilt, no double precision, matrix instructions where it multiplies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workbench_kernels import rms_norm
from workbench_kernels.parts import Variant

pytest.importorskip("triton", reason="kernels are compiled where triton is installed")

from workbench_kernels.ahead import CAPABILITIES, SHARED, built, every_variant

FOLDER = Path(rms_norm.__file__).parent
OPS = sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef variants(" in path.read_text())
VARIANTS = dict(every_variant(OPS))


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", VARIANTS)
def test_it_builds_well(name: str, capability: int) -> None:
    variant = VARIANTS[name]
    found = built(variant, capability)
    assert found.stack == found.spills == 0, f"registers did not fit: {found}"
    assert found.doubles == 0, f"something is computed in double precision: {found}"
    assert found.shared <= SHARED[capability], f"more shared memory than there is: {found}"
    if variant.matrix:
        assert (found.wgmma and not found.mma) if capability == 90 else found.mma, f"no matrix instructions: {found}"
    if variant.wide:
        assert found.wide_loads, f"no loads of 128 bits: {found}"


@pytest.mark.parametrize("name", {variant.kernel: name for name, variant in VARIANTS.items()}.values())
def test_a_whole_number_that_is_one_is_no_other_kind_of_argument(name: str) -> None:
    """On a GPU Triton makes a constant of it, which has no `.to`; the interpreter and a plain signature do not."""
    variant = VARIANTS[name]
    whole = [own for own in variant.kernel.arg_names if variant.types.get(own) == "i32" and own not in variant.launch.tiles]
    assert built(replace(variant, constants=variant.constants | dict.fromkeys(whole, 1)), 90).registers


@pytest.mark.parametrize("kernel", {variant.kernel: None for variant in VARIANTS.values()}, ids=lambda kernel: kernel.fn.__qualname__)
def test_what_changes_from_batch_to_batch_decides_over_no_kernel(kernel: Any) -> None:
    """Triton compiles another kernel for a whole number that is 1 or a multiple of 16, if it is not told to leave that number alone:
    in the middle of a run, which waits for it. Only widths and strides, which stay, may do so."""
    its = [variant for variant in VARIANTS.values() if variant.kernel is kernel]
    stays = {name for variant in its for name in (*variant.aligned, *variant.constants)}
    whole = {name for name, kind in its[0].types.items() if kind == "i32"} & {*kernel.arg_names}
    left = {own.name for own in kernel.params if own.do_not_specialize and not its[0].types[own.name].startswith("*")}
    assert left == whole - stays


def test_every_module_with_a_kernel_is_built() -> None:
    kernels = {path.stem for path in FOLDER.glob("*.py") if "\n@jit" in path.read_text()} - {"parts"}
    assert kernels == set(OPS)


def test_what_it_looks_for_it_finds() -> None:
    """The same kernel on numbers in double precision, and on rows that do not begin at multiples of 16."""
    good = next(rms_norm.variants())
    types = {name: "*fp64" if kind.startswith("*") else kind for name, kind in good.types.items()}
    assert built(Variant(good.kernel, types, good.constants, good.launch, good.aligned), 90).wide_loads
    loose = Variant(good.kernel, good.types, good.constants, good.launch)
    assert built(loose, 90).wide_loads == 0
