"""What the layerwise generators must do, on any device. Used by tests/python and tests/gpu."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from penstock import Config, Engine
from penstock.config import flatten
from penstock.layerwise import Chunks, Layerwise

LAYERS, ROWS, PAGE = 4, 8, 512 << 10  # a chunk of two rows has 1 MiB a layer: one read each
KEYS = [hashlib.sha256(bytes([i])).digest() for i in range(3)]
SAVED, LOADED = [0, 1, 2, 3, 4, 5], [6, 7, 0, 1, 2, 3]


class Model:
    """KV of four layers, and an engine over it."""

    def __init__(self, directory: Path, device: str, fault: str = "") -> None:
        self.kv = torch.randint(0, 256, (LAYERS, ROWS, PAGE), dtype=torch.uint8).to(device)
        self.stream = torch.cuda.current_stream().cuda_stream if self.kv.is_cuda else None
        regions = [
            (self.kv[layer].data_ptr(), ROWS, PAGE, PAGE, layer, 1) for layer in range(LAYERS)
        ]
        settings = {"cache_dir": str(directory), "max_cache_size_gb": 1, "min_free_gb": 0}
        if fault:
            os.environ["PENSTOCK_TEST_FAULT"] = fault
        try:
            config = Config.from_entries(flatten({**settings, "log_level": "error"}))
            self.engine = Engine.open(config, [(2, regions)], device)
        finally:
            os.environ.pop("PENSTOCK_TEST_FAULT", None)
        self.transfers = Layerwise(self.engine)
        self.namespace = self.engine.open_namespace(b"n" * 32, "{}")

    def chunks(self, rows: list[int]) -> Chunks:
        return Chunks.of_chain(self.namespace, KEYS, rows)

    def save(self) -> torch.Tensor:
        """Computes all layers, each when it is its turn; what the saved rows hold then."""
        steps = self.transfers.store_layer(self.chunks(SAVED), layers=LAYERS, stream=self.stream)
        seen = []
        while True:
            try:
                layer = next(steps)
            except StopIteration as end:
                assert seen == list(range(LAYERS))
                assert self.transfers.result(end.value).status == "ok"
                return self.kv[:, SAVED].clone()
            seen.append(layer)
            self.kv[layer] = torch.randint(0, 256, (ROWS, PAGE), dtype=torch.uint8)
