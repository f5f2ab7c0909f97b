"""A machine without a driver, which CUDA takes for one with an old driver."""

from pathlib import Path

import pytest
from penstock import Engine, PenstockError
from small_engine import config

if Path("/proc/driver/nvidia/version").exists():
    pytest.skip("there is a driver", allow_module_level=True)


def test_a_gpu_without_a_driver_is_refused_with_what_to_do(tmp_path):
    layout = [(4, [(4096, 16, 4096, 4096, 0, 1)])]
    with pytest.raises(PenstockError) as refused:
        Engine.open(config(tmp_path / "store"), layout, "cuda:0")
    assert "no NVIDIA driver here; install it" in str(refused.value)
