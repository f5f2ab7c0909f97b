"""LMCStatsMonitor: what the engines of this process did since the last question."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Protocol


class Watched(Protocol):
    def metrics(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class IntervalStats:
    """Figures of the time between two calls of get_interval_stats(). 0 where nothing was asked."""

    # Bytes that were loaded, for each second during which a load was under way: from its submission
    # to the last byte in its pages. 1 GB/s is 1e9 bytes a second.
    read_throughput_gbs: float
    # Mean of the loads that ended in the interval, from submission to completion.
    read_latency_ms: float
    # Percent: of the whole chunks that retrieve and retrieve_layer were asked for, those that were
    # loaded by all ranks.
    cache_hit_rate: float
    # Percent: the part of the interval during which a load was under way. It says how busy this
    # process keeps the way from the store to the pages, not how near that is to the drive's limit:
    # `penstock bench` measures that. Of several engines, their mean.
    dma_utilization: float
    interval_s: float


_COUNTED = (
    "loaded_bytes",
    "load_busy_micros",
    "load_seconds_le_inf",  # loads that have ended
    "load_seconds_sum",
    "asked_chunks",
    "hit_chunks",
)


class LMCStatsMonitor:
    """Any thread."""

    _lock = threading.Lock()
    _instance: LMCStatsMonitor | None = None

    def __init__(self) -> None:
        self._seen: dict[Watched, dict[str, float]] = {}
        self._ended: Counter[str] = Counter()  # of engines that are gone, since the last question
        self._since = time.monotonic()

    @classmethod
    def GetOrCreate(cls) -> LMCStatsMonitor:
        with cls._lock:
            if cls._instance is None:
                cls._instance = LMCStatsMonitor()
            return cls._instance

    def watch(self, engine: Watched) -> None:
        with self._lock:
            self._seen[engine] = engine.metrics()

    def forget(self, engine: Watched) -> None:
        with self._lock:
            before = self._seen.pop(engine, None)
            if before is not None:
                self._ended.update(_difference(engine.metrics(), before))

    def get_interval_stats(self) -> IntervalStats:
        with self._lock:
            now = time.monotonic()
            sums, self._ended = self._ended, Counter()
            for engine, before in self._seen.items():
                figures = engine.metrics()
                sums.update(_difference(figures, before))
                self._seen[engine] = figures
            interval, self._since = now - self._since, now
            return _stats(sums, interval, max(1, len(self._seen)))


def _difference(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: now.get(name, 0.0) - before.get(name, 0.0) for name in _COUNTED}


def _stats(sums: Counter[str], interval: float, engines: int) -> IntervalStats:
    busy = sums["load_busy_micros"] * 1e-6
    return IntervalStats(
        read_throughput_gbs=_ratio(sums["loaded_bytes"] * 1e-9, busy),
        read_latency_ms=_ratio(sums["load_seconds_sum"] * 1e3, sums["load_seconds_le_inf"]),
        cache_hit_rate=100 * _ratio(sums["hit_chunks"], sums["asked_chunks"]),
        # Two clocks are read one after the other: the part may seem larger than the whole.
        dma_utilization=min(100.0, 100 * _ratio(busy / engines, interval)),
        interval_s=interval,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
