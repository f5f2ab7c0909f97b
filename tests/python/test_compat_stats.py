"""LMCStatsMonitor: each figure is what its comment says."""

from __future__ import annotations

import time

import pytest
from compat_cases import CHUNK, TOKENS, WHOLE, Model, pages_of
from penstock.compat.lmcache.observability import LMCStatsMonitor

FROM, TO = pages_of(0), pages_of(1)


class Counted:
    """Figures that the test sets."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def metrics(self) -> dict[str, float]:
        return dict(self.figures)


def test_the_figures_are_of_the_interval():
    monitor, engine = LMCStatsMonitor(), Counted()
    engine.figures = {
        "loaded_bytes": 5e9,
        "load_seconds_le_inf": 7,
        "load_seconds_sum": 9,
        "asked_chunks": 3,
    }
    monitor.watch(engine)
    for bytes_, hits in ((2e9, 1), (4e9, 3)):
        time.sleep(0.05)
        engine.figures["loaded_bytes"] += bytes_
        engine.figures["load_seconds_le_inf"] += 4
        engine.figures["load_seconds_sum"] += 0.01
        engine.figures["load_busy_micros"] = engine.figures.get("load_busy_micros", 0) + 8_000
        engine.figures["asked_chunks"] += 4
        engine.figures["hit_chunks"] = engine.figures.get("hit_chunks", 0) + hits
        stats = monitor.get_interval_stats()
        assert stats.read_throughput_gbs == pytest.approx(bytes_ * 1e-9 / 0.008)
        assert stats.read_latency_ms == pytest.approx(2.5)
        assert stats.cache_hit_rate == 25 * hits
        assert stats.interval_s >= 0.05
        assert stats.dma_utilization == pytest.approx(100 * 0.008 / stats.interval_s)


def test_an_interval_in_which_nothing_happened_is_zero():
    monitor, engine = LMCStatsMonitor(), Counted()
    monitor.watch(engine)
    stats = monitor.get_interval_stats()
    assert stats.read_throughput_gbs == stats.read_latency_ms == 0
    assert stats.cache_hit_rate == stats.dma_utilization == 0


def test_what_an_engine_did_before_it_ended_counts():
    monitor, engine = LMCStatsMonitor(), Counted()
    monitor.watch(engine)
    engine.figures = {"loaded_bytes": 1e9, "load_busy_micros": 1e6}
    monitor.forget(engine)
    monitor.forget(engine)  # unknown by now
    assert monitor.get_interval_stats().read_throughput_gbs == pytest.approx(1.0)
    assert monitor.get_interval_stats().read_throughput_gbs == 0


def test_over_a_real_engine(tmp_path):
    monitor = LMCStatsMonitor.GetOrCreate()
    assert LMCStatsMonitor.GetOrCreate() is monitor
    model = Model(tmp_path / "cache")
    monitor.get_interval_stats()
    assert model.retrieve(TO).sum() == 0
    assert monitor.get_interval_stats().cache_hit_rate == 0
    model.store(FROM)
    monitor.get_interval_stats()
    begin = time.monotonic()
    for _ in range(20):
        assert model.retrieve(TO).sum() == WHOLE
    other = TOKENS[: 2 * CHUNK] + [1] * (3 * CHUNK)
    for _ in range(20):
        assert model.retrieve(pages_of(1, len(other)), other).sum() == 2 * CHUNK
    took = time.monotonic() - begin
    stats = monitor.get_interval_stats()
    loaded = model.engine.metrics()["loaded_bytes"]
    busy = model.engine.metrics()["load_busy_micros"] * 1e-6
    assert loaded == 20 * 7 * 131072
    assert 0 < busy <= took
    assert stats.read_throughput_gbs == pytest.approx(loaded * 1e-9 / busy)
    assert 0 < stats.read_latency_ms < took * 1e3 / 40
    assert stats.cache_hit_rate == pytest.approx(70)
    assert 0 < stats.dma_utilization <= 100
    model.close()
