"""LMCacheEngineBuilder: one engine for each instance id of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from penstock.compat.lmcache.config import LMCacheEngineConfig, LMCacheEngineMetadata
from penstock.compat.lmcache.engine import LMCacheEngine
from penstock.compat.lmcache.observability import LMCStatsMonitor
from penstock.compat.lmcache.pages import VLLMPagedMemGPUConnectorV2


class LMCacheEngineBuilder:
    """Any thread."""

    _lock = threading.Lock()
    _engines: dict[str, LMCacheEngine] = {}  # noqa: RUF012 - shared on purpose

    @classmethod
    def get_or_create(
        cls,
        instance_id: str,
        config: LMCacheEngineConfig,
        metadata: LMCacheEngineMetadata,
        gpu_connector: VLLMPagedMemGPUConnectorV2,
        broadcast_fn: Callable[[torch.Tensor, int], Any] | None = None,
        broadcast_object_fn: Callable[[Any, int], Any] | None = None,
    ) -> LMCacheEngine:
        """The engine of this id, built if there is none.

        ValueError: there is one of something else, or there are several ranks and no functions to
        agree with. PenstockError: no backend can start.
        """
        with cls._lock:
            engine = cls._engines.get(instance_id)
            if engine is None:
                engine = LMCacheEngine(
                    config, metadata, gpu_connector, broadcast_fn, broadcast_object_fn
                )
                cls._engines[instance_id] = engine
                LMCStatsMonitor.GetOrCreate().watch(engine)
            elif engine.metadata != metadata or engine.config != config:
                raise ValueError(
                    f"the engine {instance_id} was built with another configuration or metadata"
                )
            return engine

    @classmethod
    def get(cls, instance_id: str) -> LMCacheEngine | None:
        with cls._lock:
            return cls._engines.get(instance_id)

    @classmethod
    def destroy(cls, instance_id: str) -> None:
        """Closes the engine; unknown ids are ignored."""
        with cls._lock:
            engine = cls._engines.pop(instance_id, None)
        if engine is not None:
            engine.close()
            LMCStatsMonitor.GetOrCreate().forget(engine)
