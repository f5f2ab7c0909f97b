"""The namespaces of an engine's copies, and the age of what is in them.

A copy belongs to the epoch in which it was saved, and epochs have namespaces of their own. An epoch
is a quarter of max_age_s long and begins at a multiple of that since 1970, so every process has the
same ones; copies of the last three epochs, and of this one, are younger than max_age_s. Without
max_age_s there is one epoch. What is saved again in a later epoch takes room a second time, until
the older copy, which nobody uses any more, is evicted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.compat.lmcache.config import LMCacheEngineMetadata
from penstock.vllm.namespace import digest_of

_EPOCHS = 4
_KEPT = 16  # namespaces that are remembered


class Epochs:
    def __init__(self, max_age_s: float, now: Callable[[], float] = time.time) -> None:
        self._max_age_s = max_age_s
        self._now = now

    def current(self) -> int:
        return math.floor(self._now() / self._length()) if self._max_age_s else 0

    def valid(self, max_age_s: float | None = None) -> list[int]:
        """Epochs, newest first, whose copies are all younger than max_age_s, and than the
        configured limit. ValueError: there are no epochs to tell the age by.
        """
        if not self._max_age_s:
            if max_age_s is not None:
                raise ValueError("max_age: set max_age_s in the configuration to the longest one")
            return [0]
        limit = self._max_age_s if max_age_s is None else min(max_age_s, self._max_age_s)
        now = self._now()
        oldest = math.ceil((now - limit) / self._length())
        return list(range(math.floor(now / self._length()), oldest - 1, -1))

    def _length(self) -> float:
        return self._max_age_s / _EPOCHS


@dataclass(frozen=True)
class Space:
    """A namespace that is open in the engine."""

    id: int
    digest: bytes
    text: str


class Names:
    """Opens namespaces when they are needed."""

    def __init__(self, metadata: LMCacheEngineMetadata, chunk: int, fingerprint: str) -> None:
        self._about = {
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
        }
        self._open: dict[int, Space] = {}

    def space(self, engine: Any, epoch: int) -> Space:
        """PenstockError: the store does not answer."""
        space = self._open.get(epoch)
        if space is None:
            digest, text = digest_of({**self._about, "epoch": epoch})
            space = self._open[epoch] = Space(engine.open_namespace(digest, text), digest, text)
            while len(self._open) > _KEPT:
                del self._open[min(self._open)]
        return space
