"""Real damage to a store's pool files, behind the back of whoever has them open."""

from __future__ import annotations

import os
from pathlib import Path

BLOCK = 1 << 20
HEADER = 4096  # of a pool; block 0 begins after it


def pools(store: Path) -> list[Path]:
    return sorted(store.rglob("pool.data"))


def flip(store: Path, block: int) -> None:
    """Inverts bytes in the middle of one block of the first pool."""
    _invert(pools(store)[0], HEADER + block * BLOCK + BLOCK // 2)


def flip_everything(store: Path) -> None:
    """Inverts bytes in each 64 KiB of every pool, headers left alone."""
    for pool in pools(store):
        for offset in range(HEADER, pool.stat().st_size, 64 << 10):
            _invert(pool, offset)


def truncate_pools(store: Path) -> None:
    for pool in pools(store):
        os.truncate(pool, HEADER)


def delete_pools(store: Path) -> None:
    for pool in pools(store):
        pool.unlink()


def _invert(path: Path, offset: int, count: int = 64) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in data))
        file.flush()
        os.fsync(file.fileno())
