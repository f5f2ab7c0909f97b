"""python/penstock/rates.py: fits find the rates of a known machine, through noise and changes."""

from __future__ import annotations

import random

import pytest
from penstock.rates import Fit, PrefillRate, TierRate, attended

TOKEN, PAIR = 2.2e-5, 8.9e-10  # of Llama-3.1-8B on an H200


def step(begin: int, end: int) -> float:
    return TOKEN * (end - begin) + PAIR * attended(begin, end)


def teach(rate: PrefillRate, begin: int, end: int, factor: float = 1.0) -> None:
    rate.learn(end - begin, attended(begin, end), step(begin, end) * factor)


def within(part: float, rate: PrefillRate, *prompts: int) -> None:
    for tokens in prompts:
        assert rate.seconds(0, tokens) == pytest.approx(step(0, tokens), rel=part)


def test_attended_adds_up():
    assert attended(0, 100) + attended(100, 250) == pytest.approx(attended(0, 250))


def test_steps_of_one_long_prompt_tell_tokens_from_pairs():
    rate = PrefillRate()
    for begin in range(0, 32_768, 8_192):
        teach(rate, begin, begin + 8_192)
    within(0.01, rate, 2_048, 8_192, 32_768)
    assert rate.seconds(16_384, 32_768) == pytest.approx(step(16_384, 32_768), rel=0.01)


def test_steps_that_are_all_alike_predict_longer_prompts_too_low_and_not_too_high():
    """Rather compute once more than load in vain; the long prompt then teaches the rest."""
    rate = PrefillRate()
    for _ in range(5):
        teach(rate, 0, 8_192)
    within(0.01, rate, 8_192)
    assert 0.6 * step(0, 32_768) < (rate.seconds(0, 32_768) or 0.0) < step(0, 32_768)
    for begin in range(0, 32_768, 8_192):
        teach(rate, begin, begin + 8_192)
    within(0.02, rate, 8_192, 32_768)


def test_noise_of_a_tenth_is_averaged_out():
    source = random.Random(1)
    rate = PrefillRate()
    for _ in range(200):
        begin = source.randrange(0, 24_000)
        teach(rate, begin, begin + source.randrange(500, 8_192), source.uniform(0.9, 1.1))
    within(0.05, rate, 2_048, 8_192, 32_768)


def test_first_steps_that_compile_kernels_do_not_make_a_machine_look_slow():
    rate = PrefillRate()
    teach(rate, 0, 8_192, 20.0)
    for _ in range(2):
        teach(rate, 0, 8_192)
    within(0.05, rate, 8_192)


def test_unknown_until_it_was_measured_and_small_steps_do_not_count():
    rate = PrefillRate()
    for _ in range(10):
        rate.learn(64, 64 * 64, 0.01)
    assert not rate.known and rate.seconds(0, 1000) is None
    for _ in range(PrefillRate.ENOUGH):
        teach(rate, 0, 1024)
    assert rate.known and rate.seconds(0, 1024) is not None


@pytest.mark.parametrize("seed", range(200))
def test_factors_are_never_negative_and_predictions_grow(seed: int):
    source = random.Random(seed)
    fit = Fit(20.0)
    for _ in range(source.randrange(1, 40)):
        x, y = source.uniform(0.0, 1e6) + 1.0, source.uniform(0.0, 1e9)
        seconds = source.uniform(1e-6, 10.0)
        fit.learn(x, y, seconds, seconds)
        assert fit.a >= 0.0 and fit.b >= 0.0 and fit.a + fit.b > 0.0
        assert fit(2.0 * x, y) >= fit(x, y) and fit(x, 2.0 * y) >= fit(x, y)


def test_a_tier_has_a_rate_and_a_latency():
    rate = TierRate()
    assert rate.seconds(1e9) is None
    for size in (1e7, 5e8, 1e9, 2e7, 4e9):
        rate.learn(size, 0.004 + size / 3e9)
    assert rate.seconds(0.0) == pytest.approx(0.004, rel=0.05)
    assert rate.seconds(2e9) == pytest.approx(0.004 + 2e9 / 3e9, rel=0.01)


@pytest.mark.parametrize(("before", "after"), [(3e9, 5e8), (5e8, 3e9)])
def test_a_tier_that_changes_is_known_again_within_a_few_loads(before: float, after: float):
    rate = TierRate()
    for _ in range(50):
        rate.learn(1e9, 1e9 / before)
    for _ in range(12):
        rate.learn(1e9, 1e9 / after)
    assert rate.seconds(1e9) == pytest.approx(1e9 / after, rel=0.4)


def test_an_assumption_lasts_until_the_first_measurement():
    rate = TierRate(assumed=8e9)
    assert rate.seconds(8e9) == pytest.approx(1.0)
    rate.learn(1e9, 0.02)
    assert rate.seconds(1e9) == pytest.approx(0.02)


def test_a_late_load_is_held_against_a_tier_that_is_assumed_for_a_while():
    now = 1000.0
    rate = TierRate(assumed=8e9, clock=lambda: now)
    rate.learn(1e9, 0.02)
    for _ in range(3):  # all that were under way
        rate.forget()
    assert rate.seconds(2e9) == pytest.approx(1.0)
    now += TierRate.DOUBT
    assert rate.seconds(8e9) == pytest.approx(1.0)
    rate.forget()
    rate.learn(1e9, 0.02)
    assert rate.seconds(1e9) == pytest.approx(0.02)


def test_a_forgotten_tier_is_unknown():
    rate = TierRate()
    rate.learn(1e9, 0.3)
    rate.forget()
    assert not rate.known and rate.seconds(1e9) is None
