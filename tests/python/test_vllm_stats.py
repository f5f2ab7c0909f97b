"""What reaches vLLM's Prometheus: deltas summed, levels kept, histograms as they were."""

from types import SimpleNamespace

import pytest
from penstock.metrics import BOUNDS, FAMILIES, parse
from penstock.vllm.stats import (
    COUNTERS,
    PUBLISHED,
    EngineSamples,
    PenstockPromMetrics,
    PenstockStats,
    observations,
)
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from small_engine import COPY, open_engine, save_and_load

LABELS = {"model_name": "m", "engine": "0"}


@pytest.fixture
def prom():
    made = PenstockPromMetrics(
        SimpleNamespace(kv_transfer_config=None),
        {Gauge: Gauge, Counter: Counter, Histogram: Histogram},
        list(LABELS),
        {0: list(LABELS.values())},
    )
    yield made
    for metric in made._metrics.values():
        REGISTRY.unregister(metric)


def value(name, **labels):
    return REGISTRY.get_sample_value("vllm:" + name, LABELS | labels)


def test_no_label_of_ours_is_one_of_vllms():
    assert not any(set(LABELS) & set(family.labels) for family in FAMILIES.values())


def test_what_the_connector_counts_and_publishes_exists():
    assert set(PUBLISHED) <= set(COUNTERS)
    assert {name.partition("{")[0] for name in PUBLISHED.values()} == {
        family.name for family in FAMILIES.values() if family.scope == "connector"
    }


def test_the_connectors_counters_start_at_zero_and_add_up(prom):
    assert value("penstock_restored_tokens_total") == 0
    assert value("penstock_load_decisions_total", decision="compute") == 0
    for _ in range(2):
        prom.observe({"restored_tokens": 64, "policy_computes": 1, "restored_bytes": 9})
    assert value("penstock_restored_tokens_total") == 128
    assert value("penstock_load_decisions_total", decision="compute") == 2


def test_counters_of_ranks_and_steps_add_up_and_levels_do_not():
    counter, level = 'penstock_load_bytes_total{tier="gds"}', 'penstock_copies{tier="gds"}'
    stats = PenstockStats()
    for _ in range(2):
        stats.aggregate(PenstockStats(data={counter: 5.0, level: 7.0, "restored_tokens": 1}))
    assert stats.data == {counter: 10.0, level: 7.0, "restored_tokens": 2}


def test_the_log_line_has_the_connectors_counters_only():
    stats = PenstockStats(data={'penstock_copies{tier="gds"}': 7.0})
    assert stats.is_empty()  # no line for it
    assert stats.take() is not None  # but it goes to Prometheus
    stats = PenstockStats(data={"restored_bytes": 2e9, "restore_seconds": 0.5, "known_chunks": 1})
    assert stats.reduce() == {
        "restored_bytes": 2e9,
        "restore_seconds": 0.5,
        "known_chunks": 1,
        "restore_gbs": 4.0,
    }


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError):
        PenstockStats().add("penstock_nothing_total", 1)


def test_what_an_engine_counts_arrives(tmp_path, prom, monkeypatch):
    monkeypatch.setattr(EngineSamples, "PERIOD", 0.0)
    engine = open_engine(tmp_path)
    try:
        samples = EngineSamples(engine, levels=True)
        save_and_load(engine, chunks=2)
        prom.observe(samples.take())
        save_and_load(engine, chunks=3)
        prom.observe(samples.take())
        assert "penstock_load_jobs_total" not in samples.take()  # no news
        expected = engine.samples()
    finally:
        engine.close()
    for name in (
        'penstock_load_bytes_total{tier="gds"}',
        'penstock_lookup_hits_total{tier="gds"}',
        'penstock_io_bytes_total{tier="gds",direction="write"}',
        'penstock_written_bytes_total{tier="gds"}',
    ):
        base, _, text = name.rstrip("}").partition("{")
        labels = dict(part.replace('"', "").split("=") for part in text.split(","))
        assert value(base, **labels) == expected[name] > 0, name
    assert value("penstock_load_bytes_total", tier="gds") == 5 * COPY
    assert value("penstock_copies", tier="gds") == 3
    for bound in [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]:
        le = bound if bound == "+Inf" else str(float(bound))
        assert (
            value("penstock_load_seconds_bucket", le=le)
            == expected[f'penstock_load_seconds_bucket{{le="{bound}"}}']
        ), bound
    assert value("penstock_load_seconds_sum") == pytest.approx(
        expected["penstock_load_seconds_sum"], rel=1e-6
    )


def test_halves_that_share_a_store_count_its_figures_once(tmp_path, monkeypatch):
    monkeypatch.setattr(EngineSamples, "PERIOD", 0.0)
    engine = open_engine(tmp_path)
    other = open_engine(tmp_path)
    name = 'penstock_written_bytes_total{tier="gds"}'
    try:
        halves = [EngineSamples(engine, levels=True), EngineSamples(other, levels=False)]
        save_and_load(engine, chunks=2)
        taken = [half.take() for half in halves]
    finally:
        engine.close()
        other.close()
    assert sum(each.get(name, 0.0) for each in taken) == 2 * COPY
    assert "penstock_load_jobs_total" in taken[0] and "penstock_load_jobs_total" not in taken[1]
    assert all(parse(name).family.type != "gauge" for name in taken[1])


def test_samples_come_once_a_period(tmp_path):
    engine = open_engine(tmp_path)
    try:
        samples = EngineSamples(engine, levels=True)
        assert samples.take()
        save_and_load(engine, chunks=1)
        assert samples.take() == {}
    finally:
        engine.close()


@pytest.mark.parametrize(
    "times",
    [[0.0001], [0.00011], [0.004, 0.004, 0.3], [12.0], [0.0], [0.002] * 50 + [3.0, 20.0]],
)
def test_observations_fill_the_same_buckets_with_the_same_sum(times):
    grown = {f"{bound:g}": sum(t <= bound for t in times) for bound in BOUNDS}
    grown |= {"+Inf": len(times), "sum": sum(times)}
    made = [value for value, n in observations(grown) for _ in range(n)]
    for bound in BOUNDS:
        assert sum(t <= bound for t in made) == sum(t <= bound for t in times), bound
    assert sum(made) == pytest.approx(sum(times), abs=2e-4)
