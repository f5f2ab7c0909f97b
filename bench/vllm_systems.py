"""What bench/vllm_gpu.py compares: vLLM alone, with Penstock, and with its rivals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def penstock(work: Path, gb: int, **settings: Any) -> dict[str, Any]:
    extra = {
        "cache_dir": str(work / "penstock"),
        "max_cache_size_gb": gb,
        "max_write_gb_per_day": 0,
        "load_policy": "always",
        "save_decode_cache": False,
        **settings,
    }
    return {
        "kv_connector": "PenstockConnector",
        "kv_connector_module_path": "penstock.vllm",
        "kv_role": "kv_both",
        "kv_connector_extra_config": extra,
    }


def dram(gb: int) -> dict[str, Any]:
    return {"directory": f"/dev/shm/penstock-bench-{os.getpid()}", "max_cache_size_gb": gb}


def remove_dram() -> None:
    """What engines that were killed have left."""
    for left in Path("/dev/shm").glob("penstock-bench-*"):
        shutil.rmtree(left, ignore_errors=True)


def offloading(gb: int, **extra: Any) -> dict[str, Any]:
    return {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": gb << 30, **extra},
    }


LMCACHE = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}
LMCACHE_COMMON = {
    "LMCACHE_CHUNK_SIZE": "256",
    "LMCACHE_TRACK_USAGE": "false",
}

# name: (kv_transfer_config, environment), from the work directory and how many GB are kept
SYSTEMS: dict[str, Any] = {
    "none": lambda work, gb: (None, {}),
    "none-again": lambda work, gb: (None, {}),  # what has changed meanwhile
    "penstock-dram": lambda work, gb: (
        penstock(work, gb, backend="local", local_config=dram(gb)),
        {},
    ),
    "penstock-nvme": lambda work, gb: (penstock(work, gb, backend="gds"), {}),
    "penstock-both": lambda work, gb: (
        penstock(work, gb, backend=["local", "gds"], local_config=dram(gb)),
        {},
    ),
    "penstock-beside": lambda work, gb: (
        penstock(work, gb, backend=["local", "gds"], local_config=dram(gb), load_in_step="never"),
        {},
    ),
    "penstock-cufile": lambda work, gb: (  # whether it goes straight to the GPU or not
        penstock(work, gb, backend="gds", enable_gds="force"),
        {},
    ),
    "penstock-auto": lambda work, gb: (penstock(work, gb, backend="gds", load_policy="auto"), {}),
    "vllm-cpu": lambda work, gb: (offloading(gb), {}),
    "vllm-fs": lambda work, gb: (
        offloading(
            6,  # less than the prompts: what is measured is the disk
            spec_name="TieringOffloadingSpec",
            secondary_tiers=[{"type": "fs", "root_dir": str(work / "fs")}],
        ),
        {},
    ),
    "lmcache-cpu": lambda work, gb: (
        LMCACHE,
        {**LMCACHE_COMMON, "LMCACHE_LOCAL_CPU": "true", "LMCACHE_MAX_LOCAL_CPU_SIZE": str(gb)},
    ),
    "lmcache-disk": lambda work, gb: (
        LMCACHE,
        {
            **LMCACHE_COMMON,
            "LMCACHE_LOCAL_CPU": "false",
            "LMCACHE_MAX_LOCAL_CPU_SIZE": "10",
            "LMCACHE_LOCAL_DISK": f"file://{work}/lmcache/",
            "LMCACHE_MAX_LOCAL_DISK_SIZE": str(gb),
        },
    ),
    "lmcache-gds": lambda work, gb: (
        LMCACHE,
        {
            **LMCACHE_COMMON,
            "LMCACHE_LOCAL_CPU": "false",
            "LMCACHE_GDS_PATH": f"{work}/lmcache",
            "LMCACHE_GDS_BUFFER_SIZE": "8192",
        },
    ),
}

DEFAULT = [
    name
    for name in SYSTEMS
    if name not in ("none-again", "penstock-dram", "penstock-beside", "penstock-cufile")
]
