"""The catalog of metrics and what is made from it: the page, the endpoint, the dashboard."""

import itertools
import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from penstock import metrics
from prometheus_client.parser import text_string_to_metric_families
from small_engine import COPY, open_engine, save_and_load

ROOT = Path(__file__).resolve().parents[2]
CLI = os.environ.get("PENSTOCK_CLI", "build/penstock")
DASHBOARD = json.loads((ROOT / "docs" / "grafana" / "penstock.json").read_text())


# The catalog.


def test_the_page_is_what_the_command_prints():
    printed = subprocess.run(
        [Path(CLI).resolve(), "--help-metrics"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs" / "METRICS.md").read_text() == printed.stdout


def test_names_follow_the_conventions_of_prometheus():
    assert len(metrics.FAMILIES) == len(set(metrics.FAMILIES))
    for family in metrics.FAMILIES.values():
        assert re.fullmatch(r"penstock(_[a-z]+)+", family.name)
        assert family.name.endswith("_total") == (family.type == "counter"), family.name
        assert not re.search(r"_(ms|us|micros|mb|gb|percent)(_|$)", family.name), family.name
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_every_source_of_a_metric_has_the_same_labels_with_other_values():
    for family in metrics.FAMILIES.values():
        labels = [dict(re.findall(r'(\w+)="([^"]*)"', text)) for text, _ in family.sources]
        assert len({tuple(each) for each in labels}) == 1, family.name
        assert len({tuple(each.values()) for each in labels}) == len(labels), family.name


# The engine's samples, and the endpoint.


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(tmp_path)
    yield engine
    engine.close()


def test_samples_are_all_in_the_catalog_and_all_of_an_engine_are_there(engine):
    names = {metrics.parse(sample).family.name for sample in engine.samples()}
    wanted = {f.name for f in metrics.FAMILIES.values() if f.scope != "connector"}
    assert names == wanted


def test_a_save_and_a_load_are_counted(engine):
    save_and_load(engine, chunks=3)
    samples = engine.samples()
    assert samples['penstock_save_chunks_total{result="ok"}'] == 3
    assert samples['penstock_load_chunks_total{result="ok"}'] == 3
    assert samples['penstock_load_bytes_total{tier="gds"}'] == 3 * COPY
    assert samples['penstock_load_bytes_total{tier="local"}'] == 0
    assert samples["penstock_lookup_chunks_total"] == 4  # one was never saved
    assert samples['penstock_lookup_hits_total{tier="gds"}'] == 3
    assert samples["penstock_lookup_misses_total"] == 1
    assert samples["penstock_load_seconds_count"] == samples["penstock_load_jobs_total"] == 1
    assert 0 < samples["penstock_load_seconds_sum"] < 10
    assert samples['penstock_io_bytes_total{tier="gds",direction="read"}'] >= 3 * COPY
    assert samples['penstock_io_seconds_count{tier="gds",direction="write"}'] >= 1
    assert samples['penstock_copies{tier="gds"}'] == 3


def test_buckets_are_cumulative_and_end_with_the_count(engine):
    save_and_load(engine, chunks=2)
    samples = engine.samples()
    bounds = [*(f"{bound:g}" for bound in metrics.BOUNDS), "+Inf"]
    counts = [samples[f'penstock_load_seconds_bucket{{le="{bound}"}}'] for bound in bounds]
    assert counts == sorted(counts) and counts[-1] == samples["penstock_load_seconds_count"] == 1


def fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def test_the_endpoint_serves_what_the_engine_counts(engine):
    save_and_load(engine, chunks=2)
    server = metrics.serve(engine, port=0)
    try:
        families = {family.name: family for family in fetch(server.port)}
    finally:
        server.close()
    loaded = families["penstock_load_bytes"]
    assert loaded.type == "counter"
    assert {sample.labels["tier"]: sample.value for sample in loaded.samples} == {
        "gds": 2 * COPY,
        "local": 0,
    }
    assert families["penstock_load_seconds"].type == "histogram"


def test_a_closed_engine_has_no_metrics_and_the_endpoint_lives(engine):
    server = metrics.serve(engine, port=0)
    try:
        engine.close()
        assert fetch(server.port) == []
    finally:
        server.close()


def test_a_port_in_use_is_one_line_and_no_error(engine, caplog):
    server = metrics.serve(engine, port=0)
    try:
        assert metrics.serve(engine, port=server.port) is None
    finally:
        server.close()
    assert [f"127.0.0.1:{server.port}" in line for line in caplog.messages] == [True]


# The dashboard.


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions():
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def used_metrics(expression):
    """(name without the prefix, label names that are compared) of each selector."""
    return [
        (name, re.findall(r"(\w+)\s*[=!]", selector or ""))
        for name, selector in re.findall(r"\$\{prefix\}(\w+)(\{[^}]*\})?", expression)
    ]


def test_the_dashboard_uses_exported_metrics_only():
    assert expressions()
    for expression in expressions():
        used = used_metrics(expression)
        assert used, expression
        for name, labels in used:
            family, suffix, _ = metrics.parse("penstock_" + name)
            assert (suffix == "_bucket") == (family.type == "histogram"), expression
            known = {*family.labels, "le"} if suffix else set(family.labels)
            assert set(labels) <= known, expression


def test_the_dashboard_groups_by_labels_that_are_there():
    for expression in expressions():
        known = set()
        for name, _ in used_metrics(expression):
            family, suffix, _ = metrics.parse("penstock_" + name)
            known |= {*family.labels} | ({"le"} if suffix else set())
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert set(re.split(r",\s*", group)) <= known, expression


def test_the_check_sees_a_metric_that_is_not_exported():
    with pytest.raises(KeyError):
        metrics.parse("penstock_" + used_metrics("rate(${prefix}loads_total[1m])")[0][0])


def test_counters_are_only_used_as_rates_or_totals():
    for expression in expressions():
        for name, _ in used_metrics(expression):
            if metrics.parse("penstock_" + name).family.type == "gauge":
                assert f"rate(${{prefix}}{name}" not in expression


def test_the_dashboards_prefixes_are_the_two_that_are_exported():
    prefix = next(each for each in DASHBOARD["templating"]["list"] if each["name"] == "prefix")
    assert {each["value"] for each in prefix["options"]} == {"vllm:penstock_", "penstock_"}


def test_panels_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for a, b in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)
