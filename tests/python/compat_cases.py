"""A small model's KV memory under LMCache's names, on any device. For tests/python and
tests/gpu.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from penstock.compat.lmcache import (
    LMCacheEngine,
    LMCacheEngineBuilder,
    LMCacheEngineConfig,
    LMCacheEngineMetadata,
    VLLMPagedMemGPUConnectorV2,
)

LAYERS, HEADS, SIZE, PAGE, PAGES, CHUNK = 4, 2, 64, 16, 48, 64
DTYPE = torch.float16
TOKENS = list(range(1000, 1000 + 5 * CHUNK + 7))  # five chunks and a rest
WHOLE = 5 * CHUNK

_ids = itertools.count()


def pages_of(half: int, tokens: int = len(TOKENS)) -> torch.Tensor:
    """Slots of `tokens` in pages of the first or the second half, which do not follow each
    other.
    """
    pages = [half * PAGES // 2 + 7 * i % (PAGES // 2) for i in range(-(-tokens // PAGE))]
    slots = [page * PAGE + i for page in pages for i in range(PAGE)]
    return torch.tensor(slots[:tokens], dtype=torch.long)


class Model:
    """KV of all layers, planes first, and an engine over it."""

    def __init__(
        self,
        directory: Path,
        device: str = "cpu",
        *,
        rank: int = 0,
        world_size: int = 1,
        use_mla: bool = False,
        heads_first: bool | None = None,
        name: str = "a-model",
        functions: tuple[Any, Any] = (None, None),
        **settings: Any,
    ) -> None:
        planes = 1 if use_mla else 2
        shape = (PAGES, PAGE, SIZE) if use_mla else (2, PAGES, PAGE, HEADS, SIZE)
        heads = 1 if use_mla else HEADS
        self.use_mla = use_mla
        self.kv = {
            f"layers.{layer}": torch.randn(shape, dtype=DTYPE).to(device) for layer in range(LAYERS)
        }
        self.config = LMCacheEngineConfig.from_dict(
            {
                "cache_dir": str(directory),
                "max_cache_size_gb": 1,
                "min_free_gb": 0,
                "chunk_size": CHUNK,
                "log_level": "error",
                **settings,
            }
        )
        metadata = LMCacheEngineMetadata(
            model=name,
            world_size=world_size,
            rank=rank,
            framework="vllm",
            kv_dtype=DTYPE,
            kv_shape=(LAYERS, planes, CHUNK, heads, SIZE),
            use_mla=use_mla,
        )
        connector = VLLMPagedMemGPUConnectorV2(
            hidden_dim_size=heads * SIZE,
            num_layer=LAYERS,
            use_gpu=False,
            chunk_size=CHUNK,
            dtype=DTYPE,
            device=torch.device(device),
            use_mla=use_mla,
            heads_first=heads_first,
        )
        self.id = f"test-{next(_ids)}"
        self.engine: LMCacheEngine = LMCacheEngineBuilder.get_or_create(
            self.id, self.config, metadata, connector, *functions
        )

    def close(self) -> None:
        LMCacheEngineBuilder.destroy(self.id)

    def at(self, slots: torch.Tensor) -> torch.Tensor:
        """The KV of some slots, by torch's own indexing: layer, (plane,) slot, ..."""
        pages, places = slots // PAGE, slots % PAGE
        return torch.stack(
            [kv[pages, places] if self.use_mla else kv[:, pages, places] for kv in self.kv.values()]
        ).clone()

    def store(self, slots: torch.Tensor, tokens: list[int] = TOKENS, **more: Any) -> None:
        self.engine.store(tokens, kvcaches=self.kv, slot_mapping=slots, **more)

    def retrieve(
        self, slots: torch.Tensor, tokens: list[int] = TOKENS, **more: Any
    ) -> torch.Tensor:
        return self.engine.retrieve(tokens, kvcaches=self.kv, slot_mapping=slots, **more)
