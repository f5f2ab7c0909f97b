"""Pages in GPU memory, an engine over a store, and the link beside it; for bench/gpu.py."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from penstock import _core
from penstock.config import flatten

DEVICE = "cuda:0"
ROWS_PER_CHUNK = 16  # 256 tokens in pages of 16
LLAMA = (65536, 32)  # page bytes, layers
SHAPES = {
    "64 KiB (Llama-3.1-8B)": LLAMA,
    "8 KiB (70B at TP8)": (8192, 80),
    "18 KiB (DeepSeek-V3 MLA)": (18432, 61),
}


class Link:
    """The plain copies that everything is compared with."""

    def __init__(self) -> None:
        self.host = torch.ones(1 << 30, dtype=torch.uint8, pin_memory=True)
        self.gpu = torch.ones(1 << 30, dtype=torch.uint8, device=DEVICE)
        self.bytes = self.host.numel()

    def into_gpu(self) -> None:
        self.gpu.copy_(self.host, non_blocking=True)

    def into_host(self) -> None:
        self.host.copy_(self.gpu, non_blocking=True)

    def _gbs(self, copy: Callable[[], None]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        copy()
        torch.cuda.synchronize()
        return self.bytes / (time.perf_counter() - start) / 1e9

    def to_gpu(self) -> float:
        return self._gbs(self.into_gpu)

    def to_host(self) -> float:
        return self._gbs(self.into_host)


@cache
def chain(count: int, seed: int) -> tuple[bytes, bytes]:
    """The keys of `count` chunks and of their parents. Made once, outside of what is timed."""
    keys = [b"\0" * 32]
    for i in range(count):
        keys.append(hashlib.sha256(keys[-1] + f"{seed}/{i}".encode()).digest())
    return b"".join(keys[1:]), b"".join(keys[:-1])


class Rig:
    """Pages in GPU memory, an engine over a store, and chains of chunks to save and load."""

    def __init__(self, root: Path, shape: tuple[int, int], gigabytes: float, **settings: Any):
        page_bytes, layers = shape
        chunk = page_bytes * layers * ROWS_PER_CHUNK
        self.chunks = max(1, int(gigabytes * 1e9 / chunk))
        self.bytes = self.chunks * chunk
        self.rows = self.chunks * ROWS_PER_CHUNK
        self.pages = torch.randint(
            0, 255, (layers, self.rows, page_bytes), dtype=torch.uint8, device=DEVICE
        )
        self.layers = layers
        config = {
            "backend": "gds",
            "log_level": "warning",
            "load_policy": "always",
            **settings,
        }
        config["gds_config"] = {
            "cache_dir": str(root / "cache"),
            "max_cache_size_gb": 3 * gigabytes + 2,
            "max_write_gb_per_day": 0,
            **settings.get("gds_config", {}),
        }
        layout = (
            ROWS_PER_CHUNK,
            [
                (self.pages[i].data_ptr(), self.rows, page_bytes, page_bytes, i, 2)
                for i in range(layers)
            ],
        )
        entries = flatten(config)
        self.engine = _core.Engine.open(_core.Config.from_entries(entries), [layout], DEVICE)
        self.namespace = self.engine.open_namespace(b"b" * 32, "{}")
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(7))
        self.order = order.tolist()

    def submit(self, kind: str, seed: int, **extra: Any) -> int:
        packed, parents = chain(self.chunks, seed)
        stream = torch.cuda.current_stream().cuda_stream
        groups = [0] * self.chunks
        job = self.engine.submit(
            kind, self.namespace, 0, packed, parents, groups, self.order, stream=stream, **extra
        )
        assert job is not None, "the queue is full"
        return job

    def finish(self, *jobs: int) -> None:
        open_jobs = set(jobs)
        while open_jobs:
            self.engine.wait(10.0)
            for result in self.engine.poll():
                assert result.status == "ok", (result.status, list(result.chunk_status)[:8])
                open_jobs.discard(result.id)

    def run(self, kind: str, seed: int) -> float:
        """GB/s."""
        chain(self.chunks, seed)
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.finish(self.submit(kind, seed))
        return self.bytes / (time.perf_counter() - start) / 1e9


@contextmanager
def over_drive(
    root: Path, gigabytes: float, shape: tuple[int, int] = LLAMA, **gds_config: Any
) -> Iterator[Rig]:
    rig = Rig(root, shape, gigabytes, gds_config={"enable_gds": "false", **gds_config})
    try:
        yield rig
    finally:
        rig.engine.close()
        shutil.rmtree(root / "cache")


@contextmanager
def over_memory(root: Path, gigabytes: float, shape: tuple[int, int] = LLAMA) -> Iterator[Rig]:
    directory = tempfile.mkdtemp(prefix="penstock-bench-", dir="/dev/shm")
    local = {"directory": directory, "max_cache_size_gb": 2.2 * gigabytes + 0.5}
    rig = Rig(root, shape, gigabytes, backend="local", local_config=local)
    try:
        yield rig
    finally:
        rig.engine.close()
        shutil.rmtree(directory)


def pool_of(root: Path) -> Path:
    return root / "cache" / "pool.data"
