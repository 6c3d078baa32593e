"""The GPU's own figures, with a library and a GPU that are pretended: there is none where the tests run."""

import sys
from types import SimpleNamespace

import pytest
import torch

from workbench.jobs.machine import Gpu


class NVMLError(Exception):
    pass


def library(**changes: object) -> SimpleNamespace:
    """What `pynvml` has of a GPU that is 87 % busy, draws 451.5 W and is 66 °C warm."""
    usual = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=87),
        "nvmlDeviceGetPowerUsage": lambda handle: 451_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 66,
    }
    return SimpleNamespace(**{**usual, **changes})


def refuses(*given: object) -> None:
    raise NVMLError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"))


def test_the_figures_in_percent_watts_and_degrees(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())
    here = Gpu.here()
    assert here.handle == "GPU-abc" and here.figures() == {"gpu_busy": 87.0, "gpu_watts": 451.5, "gpu_celsius": 66.0}


def test_what_a_gpu_does_not_tell_is_left_out(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetPowerUsage=refuses))
    assert Gpu.here().figures() == {"gpu_busy": 87.0, "gpu_celsius": 66.0}


@pytest.mark.parametrize("there", [library(nvmlInit=refuses), library(nvmlDeviceGetHandleByUUID=refuses), None])
def test_without_driver_or_library_there_is_nothing_to_tell(gpu: None, monkeypatch: pytest.MonkeyPatch, there: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", there)
    assert Gpu.here().figures() == {}


def test_without_a_gpu_there_is_nothing_to_tell() -> None:
    if not torch.cuda.is_available():
        assert Gpu.here() == Gpu()
