"""Requests whose hits are loaded within a step, for both halves of the connector on any device."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from halves import BLOCKS, CHUNK, COPY, LAYERS, OTHER_TABLE, TABLE, TOKENS, Pair, warm
from penstock.vllm.worker import Results

HIT = 192
TABLES = [list(range(first, first + 13)) for first in (1, 14, 27, 40)]
assert TABLES[-1][-1] < BLOCKS


def settings(memory: Path) -> dict[str, Any]:
    return {
        "backend": ["local", "gds"],
        "block_size": COPY // LAYERS,  # of a layer
        "local_config": {"directory": str(memory), "max_cache_size_gb": 0.05},
    }


def on_the_drive(pair: Pair) -> None:
    deadline = time.monotonic() + 20
    while pair.worker._engine.metrics()["write_behind_pending_bytes"] > 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ready(pair: Pair) -> None:
    """A chain in both tiers, and a load that has come back."""
    warm(pair)
    on_the_drive(pair)
    request = pair.add("proves", TOKENS)
    assert pair.matched(request) == (HIT, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), HIT)
    pair.wait_for_load()
    finish(pair, request, "first")


def finish(pair: Pair, *requests) -> None:
    for request in requests:
        if isinstance(request, str):
            pair.scheduler._in_step.finished(request)
        else:
            pair.scheduler.finished(request)


def load(pair: Pair, name: str, table: list[int], **step: Any) -> Results:
    """A request whose hit is loaded within the step that computes the rest."""
    request = pair.add(name, TOKENS)
    assert pair.matched(request) == (HIT, False)
    pair.scheduler.allocated(request, (table,), HIT)
    results = pair.step((request, table, HIT, len(TOKENS) - HIT), over=[request], **step)
    assert not results.received  # vLLM knows no load
    return results


def same(pair: Pair, table: list[int]) -> bool:
    return all(torch.equal(cache[TABLE[:12]], cache[table[:12]]) for cache in pair.caches.values())


class Runs:
    """Counts runs out of host memory: one of a chunk whose blocks are adjacent, or of each block,
    which is a layer here."""

    def __init__(self, pair: Pair) -> None:
        self._engine = pair.worker._engine
        self._before = self._count()

    def _count(self) -> float:
        return self._engine.metrics()["memory_read_seconds_le_inf"]

    def were_of_layers(self) -> bool:
        return self._count() - self._before == HIT // CHUNK * LAYERS


def is_there(pair: Pair, table: list[int], seen: list[bool]) -> Callable[[str], None]:
    """What a pass that begins with wiped blocks notes of each layer when it comes to it."""
    for cache in pair.caches.values():
        cache[table] = 0

    def note(layer: str) -> None:
        cache = pair.caches[layer]
        seen.append(torch.equal(cache[TABLE[:12]], cache[table[:12]]))

    return note


def damage(pool: Path) -> None:
    """A byte of every block."""
    with pool.open("r+b") as file:
        for at in range(4096 + 100, pool.stat().st_size, 4096):
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
