"""Models whose KV memory is not one group of plain attention layers, and several ranks.

A first pass over an empty store is the run without a cache: nothing is found there.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.core
CHUNK = 256


def claimable(results: list[dict]) -> list[int]:
    return [(result["prompt"] - 1) // CHUNK * CHUNK for result in results]


@pytest.fixture(scope="module")
def hybrid(engines):
    return engines.once("gemma")


def test_sliding_windows_beside_full_attention(hybrid, same):
    same(hybrid["cold"], hybrid["restored"])
    assert [result["cached"] for result in hybrid["restored"]] == claimable(hybrid["cold"])
    counters = hybrid["steps"]["restored"]
    assert counters["restored_tokens"] == sum(claimable(hybrid["cold"]))
    assert counters["failed_loads"] == 0


def test_only_the_window_is_read_of_sliding_groups(hybrid):
    """Of 3000 tokens full attention needs 11 chunks, each of two sliding groups one."""
    counters = hybrid["steps"]["restored"]
    chunk_bytes = 2 * (CHUNK // 32) * (2 * 32 * 128 * 4)  # of one group: two layers, float32
    chunks = sum(n // CHUNK for n in claimable(hybrid["cold"]))
    hits = sum(n > 0 for n in claimable(hybrid["cold"]))
    assert counters["restored_bytes"] == chunk_bytes * (chunks + 2 * hits)


def test_a_failed_load_of_several_groups_is_computed(hybrid, same):
    """failed_recving: block ids would end the engine there."""
    same(hybrid["cold"][-1:], hybrid["damaged"])
    same(hybrid["cold"][-1:], hybrid["healed"])
    assert hybrid["steps"]["damaged"]["failed_loads"] == 1


def test_mla(engines, same):
    seen = engines.once("mla")
    same(seen["cold"], seen["restored"])
    assert seen["restored_counters"]["restored_tokens"] == sum(claimable(seen["cold"]))
    assert seen["restored_counters"]["failed_loads"] == 0


def test_two_ranks(engines, same):
    """Both shards of every key are needed, saved and restored."""
    seen = engines.run("tensor_parallel", ranks=2)
    same(seen["cold"], seen["restored"])
    tokens = sum(claimable(seen["cold"]))
    counters = seen["restored_counters"]
    assert counters["saved_tokens"] == counters["restored_tokens"] == tokens
    assert counters["restored_bytes"] == counters["saved_bytes"] > 0


@pytest.mark.full
def test_replicated_kv_is_stored_once(engines, same):
    seen = engines.run("tensor_parallel", ranks=2, model="mla", store="tp-mla")
    same(seen["cold"], seen["restored"])
    counters = seen["restored_counters"]
    assert counters["saved_tokens"] == counters["restored_tokens"] > 0
    assert counters["restored_bytes"] == 2 * counters["saved_bytes"]
