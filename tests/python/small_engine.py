"""An engine over a few pages of host memory, without vLLM and torch."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

from penstock import Config, Engine
from penstock.config import flatten

ROWS, LAYERS, PAGE = 64, 4, 4096
PER_CHUNK = 4
COPY = LAYERS * PER_CHUNK * PAGE  # bytes of a chunk

_memory: list[Any] = []  # outlives the engines


def config(directory: Path, **settings: Any) -> Config:
    directory.mkdir(mode=0o700, exist_ok=True)
    defaults = {"cache_dir": str(directory), "min_free_gb": 0, "max_cache_size_gb": 0.1}
    return Config.from_entries(flatten({**defaults, **settings}))


def open_engine(work: Path, **settings: Any) -> Engine:
    """A new engine over the store in `work`/store."""
    size = ROWS * PAGE
    buffer = ctypes.create_string_buffer(LAYERS * size + PAGE)
    _memory.append(buffer)
    base = -(-ctypes.addressof(buffer) // PAGE) * PAGE
    regions = [(base + layer * size, ROWS, PAGE, PAGE, layer, 1) for layer in range(LAYERS)]
    return Engine.open(config(work / "store", **settings), [(PER_CHUNK, regions)])


def chain(chunks: int) -> list[bytes]:
    return [hashlib.sha256(bytes([chunk])).digest() for chunk in range(chunks)]


def run(engine: Engine, kind: str, namespace: int, chunks: int) -> Any:
    keys = chain(chunks)
    parents = [bytes(32), *keys[:-1]]
    rows = list(range(chunks * PER_CHUNK))
    job = engine.submit(kind, namespace, 0, b"".join(keys), b"".join(parents), [0] * chunks, rows)
    assert engine.wait(20)
    (result,) = engine.poll()
    assert result.id == job
    return result


def save_and_load(engine: Engine, chunks: int) -> None:
    """Saves a chain, looks up one chunk more than it has, loads it."""
    namespace = engine.open_namespace(hashlib.sha256(b"test").digest(), "{}")
    assert run(engine, "save", namespace, chunks).status in ("ok", "present")
    lookup = engine.lookup(namespace, b"".join(chain(chunks + 1)), [(0, 1, 0)])
    assert lookup.wait(10_000_000) == chunks
    assert run(engine, "load", namespace, chunks).status == "ok"
