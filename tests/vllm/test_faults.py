"""Damage under a running engine, with vLLM's default kv_load_failure_policy ("fail").

Every request must end as it would without a cache: the connector has set the policy to recompute.
"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.core
CLAIM = 1280  # of 1500 tokens


@pytest.fixture(scope="module")
def faults(engines):
    return engines.once("faults")


def gained(faults: dict, step: str) -> dict[str, float]:
    names = list(faults["steps"])
    before = faults["steps"][names[names.index(step) - 1]] if names.index(step) else {}
    return {name: value - before.get(name, 0) for name, value in faults["steps"][step].items()}


@pytest.mark.parametrize(
    "step",
    [
        "whole",
        "flipped_third",
        "healed",
        "flipped_all",
        "healed_all",
        "saved_again",
        "truncated",
        "after",
    ],
)
def test_the_same_tokens_whatever_happened(faults, same, step):
    same(faults["cold"], faults[step])
    assert faults[step][0]["reason"] == "length"


def test_the_hit_without_damage(faults):
    assert gained(faults, "whole")["restored_tokens"] == CLAIM
    assert gained(faults, "whole")["failed_loads"] == 0


def test_the_valid_prefix_before_a_corrupted_block_is_kept(faults):
    step = gained(faults, "flipped_third")
    assert step["failed_loads"] == 1
    assert step["restored_tokens"] == 512
    assert step["failed_tokens"] == CLAIM - 512


def test_what_was_lost_is_saved_again(faults):
    """The damaged copy and those after it were dropped; the next request computes and saves."""
    assert gained(faults, "healed")["failed_loads"] == 0
    assert gained(faults, "healed")["restored_tokens"] == 512
    assert gained(faults, "healed")["saved_tokens"] >= CLAIM - 512


def test_a_first_block_that_is_bad_is_claimed_once(faults):
    """vLLM asks again when no block is left: claiming again would never end."""
    step = gained(faults, "flipped_all")
    assert step["failed_loads"] == 1
    assert step["restored_tokens"] == 0


def test_requests_that_wait_for_a_load_that_fails(faults, same):
    same(faults["cold"] * 3, faults["flipped_together"])


def test_a_shortened_pool_is_a_miss(faults):
    assert gained(faults, "truncated")["restored_tokens"] == 0
    assert gained(faults, "truncated")["failed_loads"] == 1


def test_other_prompts_go_on(faults):
    assert [result["reason"] for result in faults["others"]] == ["length", "length"]


def test_a_read_that_never_returns_ends_at_its_deadline(engines, same):
    seen = engines.once("stuck", extra_environment={"PENSTOCK_TEST_FAULT": "read:1+:stuck"})
    same(seen["cold"], seen["stuck"])
    same(seen["cold"], seen["paused"])
    assert seen["stuck_counters"]["failed_loads"] == 1
    # The drive is left alone for a while: no second request waits for it.
    assert seen["paused_counters"]["failed_loads"] == 1
    assert seen["paused_counters"]["restored_tokens"] == 0
