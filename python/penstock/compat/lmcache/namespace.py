"""The namespace of a compat engine's copies: all that must match besides their tokens."""

from __future__ import annotations

import json
from typing import Any

from penstock.compat.lmcache.config import LMCacheEngineMetadata


def describe(
    metadata: LMCacheEngineMetadata, chunk: int, fingerprint: str, epoch: int
) -> dict[str, Any]:
    return {
        "format": 1,
        "engine": "lmcache",
        "model": metadata.model,
        "framework": metadata.framework,
        "kv_dtype": str(metadata.kv_dtype),
        "kv_shape": list(metadata.kv_shape),
        "world_size": metadata.world_size,
        "use_mla": metadata.use_mla,
        "layout": json.loads(fingerprint),
        "chunk": chunk,
        "keys": "token_keys",
        "epoch": epoch,
    }
