"""python/penstock/load_policy.py: what must hold on every machine, over thousands of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from penstock.load_policy import LEAST_DEADLINE, MARGIN, Choice, choose
from penstock.rates import attended

CHUNK = 256


@dataclass(frozen=True)
class Machine:
    """A prompt and the rates of a machine; None: not measured."""

    begin: int
    total: int
    copy_bytes: int
    runs: tuple[tuple[str, int], ...]
    tiers: dict[str, float | None]  # bytes a second
    token: float | None  # seconds
    pair: float
    waiting: int

    def choose(self) -> Choice:
        return choose(
            begin=self.begin,
            total=self.total,
            chunk=CHUNK,
            copy_bytes=self.copy_bytes,
            runs=self.runs,
            load_seconds=self.load_seconds,
            compute_seconds=self.compute_seconds,
            waiting=self.waiting,
        )

    def load_seconds(self, tier: str, size: int) -> float | None:
        rate = self.tiers[tier]
        return size / rate if rate is not None else None

    def compute_seconds(self, begin: int, end: int) -> float | None:
        if self.token is None:
            return None
        return self.token * (end - begin) + self.pair * attended(begin, end)

    def delay(self, choice: Choice) -> float:
        """What all who wait lose by a choice."""
        begin = choice.end * CHUNK if choice.loads else self.begin
        rest = self.compute_seconds(begin, self.total)
        assert rest is not None
        return choice.load_seconds + (1 + self.waiting) * rest


def machine(seed: int) -> Machine:
    source = random.Random(seed)

    def spread(low: float, high: float) -> float:
        return low * (high / low) ** source.random()

    total = source.randrange(2, 40_000)
    longest = (total - 1) // CHUNK
    begin = source.choice([0, 0, source.randrange(0, total)])
    ends = sorted(source.randrange(0, longest + 1) for _ in range(2))
    return Machine(
        begin=begin,
        total=total,
        copy_bytes=int(spread(1e5, 1e8)),
        runs=tuple(zip(("local", "gds"), ends, strict=True))[source.randrange(0, 2) :],
        tiers={"local": spread(1e9, 1e11), "gds": spread(1e7, 1e10)},
        token=spread(1e-6, 1e-3),
        pair=source.choice([0.0, spread(1e-12, 1e-8)]),
        waiting=source.choice([0, 0, 1, 5, 100]),
    )


def everywhere(test: Callable[[Machine], None]) -> Callable[[int], None]:
    """Runs a test over many machines, in batches that name the seed that failed."""

    @pytest.mark.parametrize("batch", range(10))
    def run(batch: int) -> None:
        for seed in range(batch * 500, (batch + 1) * 500):
            try:
                test(machine(seed))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {machine(seed)}: {error}") from error

    return run


@everywhere
def test_the_end_is_nothing_or_that_of_a_run(m: Machine) -> None:
    choice = m.choose()
    assert choice.is_known
    if choice.loads:
        assert choice.end in {end for _, end in m.runs} and choice.end > m.begin // CHUNK
    else:
        assert choice.end == m.begin // CHUNK


@everywhere
def test_what_is_loaded_is_expected_sooner(m: Machine) -> None:
    choice = m.choose()
    nothing = Choice(m.begin // CHUNK, 0.0, True)
    if choice.loads:
        assert m.delay(choice) < m.delay(nothing)


@everywhere
def test_what_is_plainly_sooner_is_loaded(m: Machine) -> None:
    """No candidate beats the choice by more than its margin."""
    chosen, at, load = m.choose(), m.begin // CHUNK, 0.0
    for tier, end in m.runs:
        if end > at:
            load += (end - at) * m.copy_bytes / (m.tiers[tier] or 1.0)
            at = end
            slack = (MARGIN - 1.0) * load + 0.01
            assert m.delay(chosen) <= m.delay(Choice(end, load, True)) + slack


@everywhere
def test_a_faster_tier_never_loads_less(m: Machine) -> None:
    for tier, rate in m.tiers.items():
        faster = replace(m, tiers={**m.tiers, tier: (rate or 0.0) * 1.7})
        assert faster.choose().end >= m.choose().end


@everywhere
def test_slower_computing_and_more_who_wait_never_load_less(m: Machine) -> None:
    assert m.token is not None
    slower = replace(m, token=m.token * 1.7, pair=m.pair * 1.7)
    assert slower.choose().end >= m.choose().end
    assert replace(m, waiting=m.waiting + 3).choose().end >= m.choose().end


@everywhere
def test_what_is_unknown_is_computed(m: Machine) -> None:
    useful = any(end > m.begin // CHUNK for _, end in m.runs)
    for unknown in (replace(m, token=None), replace(m, tiers={"local": None, "gds": None})):
        choice = unknown.choose()
        assert not choice.loads
        assert choice.is_known is not useful
    half = replace(m, tiers={**m.tiers, "gds": None})
    fast = [(tier, end) for tier, end in m.runs if tier == "local"]
    assert half.choose().end == replace(m, runs=tuple(fast)).choose().end


@everywhere
def test_the_deadline_leaves_room(m: Machine) -> None:
    choice = m.choose()
    assert choice.deadline >= max(choice.load_seconds, LEAST_DEADLINE)


def test_nothing_to_load_is_no_question():
    m = replace(machine(1), runs=(("gds", 0),), token=None)
    assert m.choose() == Choice(m.begin // CHUNK, 0.0, True)


LLAMA_8B = Machine(
    begin=0,
    total=32_769,
    copy_bytes=256 * 131_072,
    runs=(("gds", 128),),
    tiers={"gds": 2.5e9, "local": 50e9},
    token=2.2e-5,
    pair=8.9e-10,
    waiting=0,
)


def test_a_drive_that_is_slower_than_the_gpu_is_left_alone_until_others_wait():
    """An H200 computes 4 GB of KV a second and more; the drive gives 2.5."""
    assert not LLAMA_8B.choose().loads
    assert replace(LLAMA_8B, waiting=1).choose().end == 128
    assert replace(LLAMA_8B, tiers={"gds": 10e9}).choose().end == 128


def test_memory_is_loaded_and_the_drive_behind_it_left_alone():
    both = replace(LLAMA_8B, runs=(("local", 64), ("gds", 128)))
    assert both.choose().end == 64
    assert replace(both, tiers={"gds": 10e9, "local": 50e9}).choose().end == 128
