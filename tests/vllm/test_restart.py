"""The main job: save in one process, restore in another, and get what no connector would give."""

from __future__ import annotations

import pytest
from driver import CHUNK

pytestmark = pytest.mark.core


def claimable(prompt_tokens: int) -> int:
    """One token is always computed."""
    return (prompt_tokens - 1) // CHUNK * CHUNK


@pytest.fixture(scope="module")
def baseline(engines):
    return engines.once("baseline")


@pytest.fixture(scope="module")
def saved(engines, baseline):
    return engines.once("save")


@pytest.fixture(scope="module")
def restored(engines, baseline, saved):
    decoded = ",".join(map(str, baseline["decoding"][0]["tokens"]))
    return engines.once("restore", decoded=decoded)


def gained(restored: dict, step: str) -> dict[str, float]:
    """Counters of one step."""
    names = list(restored["steps"])
    before = restored["steps"][names[names.index(step) - 1]] if names.index(step) else {}
    now = restored["steps"][step]
    return {name: value - before.get(name, 0) for name, value in now.items()}


@pytest.mark.parametrize("name", ["lengths", "boundaries", "shared", "decoding", "crowd"])
def test_saving_changes_nothing(baseline, saved, same, name):
    same(baseline[name], saved[name])


def test_the_first_process_saves_and_restores_nothing(saved):
    counters = saved["counters"]
    assert counters["saved_tokens"] >= sum(claimable(r["prompt"]) for r in saved["lengths"])
    assert counters["dropped_chunks"] == 0
    assert counters["failed_loads"] == 0


@pytest.mark.parametrize(
    "name", ["lengths", "boundaries", "shared", "others", "grown", "crowd", "after_abort"]
)
def test_restored_kv_gives_the_same_tokens(baseline, restored, same, name):
    expected = baseline["lengths"][3:] if name == "after_abort" else baseline[name]
    same(expected, restored[name])


def test_what_was_saved_is_restored_to_the_token(restored):
    expected = sum(claimable(result["prompt"]) for result in restored["lengths"])
    assert gained(restored, "lengths")["restored_tokens"] == expected
    assert [r["cached"] for r in restored["lengths"]] == [
        claimable(r["prompt"]) for r in restored["lengths"]
    ]


def test_chunk_boundaries(restored):
    """255 and 256 tokens: nothing to claim; 257: one chunk; 512: still one, 513: two."""
    assert [result["cached"] for result in restored["boundaries"]] == [0, 0, 256, 256, 256, 512]
    assert gained(restored, "boundaries")["restored_tokens"] == 256 * 5


def test_one_load_serves_all_that_wait_for_the_same_chunk(restored):
    """Prompts of 700, 900 and 1100 tokens share 600, of which the engine itself has 576 (whole
    blocks) once the first is served. Without waiting for it each would load all it can claim.
    """
    alone = claimable(700) + claimable(900) - 576 + claimable(1100) - 576
    assert gained(restored, "shared")["restored_tokens"] == alone


def test_prompts_that_were_never_saved_are_misses(restored):
    assert gained(restored, "others")["restored_tokens"] == 0
    assert [result["cached"] for result in restored["others"]] == [0, 0]


def test_chunks_that_were_completed_by_decoding_are_restored(restored):
    assert gained(restored, "grown")["restored_tokens"] == 256


def test_preempted_requests_are_restored_and_right(restored):
    """1500 tokens and 140 more, four times, in 6400 rows' worth of tokens."""
    assert gained(restored, "crowd")["restored_tokens"] >= 4 * claimable(1500)


def test_nothing_is_read_for_a_request_that_skips_caches(restored):
    assert gained(restored, "skipping")["restored_tokens"] == 0


def test_an_abort_while_loading_leaves_the_engine_alive(restored):
    assert restored["aborted"] == []
    assert gained(restored, "after_abort")["restored_tokens"] == claimable(3000)


def test_no_load_failed(restored):
    final = restored["steps"]["after_abort"]
    assert final["failed_loads"] <= 1  # the aborted one may have been cut short
