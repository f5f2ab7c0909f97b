"""load_policy: auto with a real engine: it computes, learns, and then loads what comes sooner."""

from __future__ import annotations

import pytest
from driver import CHUNK

pytestmark = pytest.mark.core


def claimable(results: list[dict]) -> int:
    return sum((result["prompt"] - 1) // CHUNK * CHUNK for result in results)


@pytest.fixture(scope="module")
def fresh(engines):
    return engines.once("policy")


def test_loads_once_it_knows_both_rates(fresh, same):
    same(fresh["first"], fresh["again"])
    counters = fresh["again_counters"]
    assert counters["policy_loads"] == 4
    assert counters["restored_tokens"] == claimable(fresh["again"])


def test_what_the_engines_count_is_on_vllms_endpoint(fresh):
    found, chunks = fresh["published"], fresh["again_counters"]["restored_tokens"] // CHUNK
    assert found['penstock_load_chunks_total{result="ok"}'] == chunks > 0
    assert found['penstock_lookup_hits_total{tier="gds"}'] >= chunks
    assert found['penstock_copies{tier="gds"}'] >= chunks
    assert found['penstock_io_seconds_count{tier="gds",direction="read"}'] > 0
    assert found['penstock_io_seconds_bucket{tier="gds",direction="read",le="+Inf"}'] > 0
    assert found["penstock_load_seconds_count"] == found["penstock_load_jobs_total"] == 4
    assert sum(found[f'penstock_io_engine{{path="{path}"}}'] for path in ("uring", "posix")) == 1


def test_predictions_are_of_the_right_order(fresh):
    """Two busy cores are no ruler; errors of a tenth are for an idle machine."""
    counters = fresh["again_counters"]
    assert counters["load_predictions"] == 4
    assert counters["prefill_predictions"] >= 1
    assert counters["prefill_error_sum"] / counters["prefill_predictions"] < 1


def test_a_new_process_over_a_warm_store_computes_first(engines, fresh, same):
    seen = engines.run("policy")
    same(fresh["first"], seen["first"])
    assert seen["first"][0]["cached"] == 0
    assert seen["first_counters"]["policy_unknown"] >= 1


@pytest.mark.full
def test_a_load_that_does_not_come_in_time_is_computed(engines, fresh, same):
    """Every read is stuck. Predictions end the loads, whose number the probe's pace bounds."""
    seen = engines.run("policy", extra_environment={"PENSTOCK_TEST_FAULT": "read:1+:stuck"})
    for turn in ("first", "again", "late"):
        same(fresh["first"], seen[turn])
    counters = seen["late_counters"]
    assert counters["restored_tokens"] == 0
    assert counters["policy_late"] >= 1
    assert counters["failed_loads"] == counters["policy_late"]


@pytest.mark.full
def test_measurements_cross_processes(engines, same):
    seen = engines.run("policy", store="policy-apart", multiprocessing=True, wait=11.0)
    same(seen["first"], seen["again"])
    assert seen["again_counters"]["policy_loads"] == 4
