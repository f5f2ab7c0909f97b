"""LMCacheEngineConfig and LMCacheEngineMetadata: what an engine is built from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penstock import _core
from penstock.config import Entry, flatten, read_file

_LOG_LEVELS = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARN": "warning",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error",
}
_SECTOR = 4096


class Section:
    """The keys of gds_config, checked and with their defaults, as attributes."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _one_or_all(getattr(self._core, name))


class LMCacheEngineConfig:
    """A checked configuration: every key of docs/CONFIGURATION.md is an attribute, those of
    gds_config also of `gds_config`. A list of one is that one.
    """

    def __init__(self, entries: list[Entry]) -> None:
        """Raises PenstockError with a sentence that names the key."""
        self._entries = entries
        self._core = _core.Config.from_entries(entries)
        self.gds_config = Section(self._core)

    @staticmethod
    def from_file(path: str | Path) -> LMCacheEngineConfig:
        """From a YAML file. Variables PENSTOCK_<KEY> win over it, and so does LMCACHE_LOG_LEVEL."""
        return LMCacheEngineConfig(_with_log_level(flatten(read_file(path))))

    @staticmethod
    def from_dict(settings: dict[str, Any]) -> LMCacheEngineConfig:
        return LMCacheEngineConfig(_with_log_level(flatten(settings)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _one_or_all(getattr(self._core, name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LMCacheEngineConfig) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]

    @property
    def backends(self) -> list[str]:
        """All of `backend`, from fast to slow."""
        return list(self._core.backend)

    def core(self, copy_bytes: int) -> Any:
        """The core's configuration for copies of this size: a new store's blocks are no larger."""
        largest = -(-copy_bytes // _SECTOR) * _SECTOR
        if self._core.block_size <= largest:
            return self._core
        others = [entry for entry in self._entries if entry[0].split(".")[-1] != "block_size"]
        return _core.Config.from_entries([*others, ("block_size", [str(largest)], False)])


@dataclass(frozen=True)
class LMCacheEngineMetadata:
    """What the KV is, for its name.

    `model` is all that tells models apart here: give another one when the weights change.
    """

    model: str
    world_size: int
    rank: int
    framework: str
    kv_dtype: torch.dtype
    kv_shape: tuple[int, int, int, int, int]  # layers, 1 or 2, tokens of a chunk, heads, head size
    use_mla: bool = False

    def __post_init__(self) -> None:
        if len(self.kv_shape) != 5 or any(size < 1 for size in self.kv_shape):
            raise ValueError(f"kv_shape: five positive numbers are needed, not {self.kv_shape}")
        if self.kv_shape[1] != (1 if self.use_mla else 2):
            raise ValueError(
                f"kv_shape: {self.kv_shape[1]} planes; K and V are 2, with use_mla it is 1"
            )
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} of {self.world_size} does not exist")

    @property
    def copy_bytes(self) -> int:
        """Bytes of one chunk of one rank."""
        elements = 1
        for size in self.kv_shape:
            elements *= size
        return elements * self.kv_dtype.itemsize


def need_gpu_interm_buffer(config: LMCacheEngineConfig) -> bool:
    """The core has its own ring of GPU memory, so a connector never needs a buffer."""
    return False


def _one_or_all(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _with_log_level(entries: list[Entry]) -> list[Entry]:
    level = _LOG_LEVELS.get(os.environ.get("LMCACHE_LOG_LEVEL", "").upper())
    if level is None:
        return entries
    return [*(e for e in entries if e[0] != "log_level"), ("log_level", [level], False)]
