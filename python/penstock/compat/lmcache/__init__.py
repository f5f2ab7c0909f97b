"""LMCache's names over Penstock's engine.

    engine = LMCacheEngineBuilder.get_or_create(
        "vllm-instance", LMCacheEngineConfig.from_file("lmcache_config_gds.yaml"), metadata,
        VLLMPagedMemGPUConnectorV2(...), tpg.broadcast, tpg.broadcast_object)
    engine.store(tokens, kvcaches=kvcaches, slot_mapping=slots)
    mask = engine.retrieve(tokens, kvcaches=kvcaches, slot_mapping=slots)

What differs from LMCache stands in docs/user-document.md. Needs torch; knows no vLLM.
"""

from penstock.compat.lmcache.backends import CacheBackend
from penstock.compat.lmcache.builder import LMCacheEngineBuilder
from penstock.compat.lmcache.config import (
    LMCacheEngineConfig,
    LMCacheEngineMetadata,
    need_gpu_interm_buffer,
)
from penstock.compat.lmcache.engine import LMCacheEngine
from penstock.compat.lmcache.observability import LMCStatsMonitor
from penstock.compat.lmcache.pages import VLLMPagedMemGPUConnectorV2

__all__ = [
    "CacheBackend",
    "LMCStatsMonitor",
    "LMCacheEngine",
    "LMCacheEngineBuilder",
    "LMCacheEngineConfig",
    "LMCacheEngineMetadata",
    "VLLMPagedMemGPUConnectorV2",
    "need_gpu_interm_buffer",
]
