"""Loads within a step: when they are chosen, and what happens if one fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from halves import LAYERS, OTHER_TABLE, TOKENS, Pair, warm
from in_step_cases import (
    HIT,
    TABLES,
    Runs,
    damage,
    finish,
    is_there,
    load,
    on_the_drive,
    ready,
    same,
    settings,
)
from penstock.vllm.worker import LoadLost, Results
from policy_cases import teach
from vllm.config import CUDAGraphMode


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="penstock-test-", dir="/dev/shm") as directory:
        yield Path(directory) / "local"


@pytest.fixture
def make(tmp_path: Path, memory: Path) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(**others) -> Pair:
        made.append(Pair(tmp_path, **{**settings(memory), **others}))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_first_hit_goes_beside_the_steps_and_the_next_within_one(make, overlapping):
    pair = make(overlapping=overlapping)
    ready(pair)
    assert load(pair, "within", TABLES[3]) == Results()
    assert same(pair, TABLES[3])
    assert not any(cache[TABLES[3][12]].any() for cache in pair.caches.values())
    assert pair.worker._stats.data["in_step_loads"] == 1
    assert load(pair, "again", TABLES[1]) == Results()
    assert pair.worker._stats.data["in_step_loads"] == 2


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_pass_begins_before_the_last_layers_are_there_once_vllm_has_asked_for_each(
    make, overlapping
):
    pair = make(overlapping=overlapping)
    ready(pair)
    seen: list[bool] = []
    for table, mode, by_layer in [
        (TABLES[3], CUDAGraphMode.NONE, False),
        (TABLES[1], CUDAGraphMode.NONE, True),
        (TABLES[2], CUDAGraphMode.PIECEWISE, False),  # not seen yet
        (TABLES[3], CUDAGraphMode.PIECEWISE, True),
        (TABLES[1], CUDAGraphMode.FULL, False),
        (TABLES[2], CUDAGraphMode.FULL, False),
        (TABLES[3], CUDAGraphMode.NONE, True),
    ]:
        at_layer = is_there(pair, table, seen)
        runs = Runs(pair)
        assert load(pair, "within", table, mode=mode, at_layer=at_layer) == Results()
        assert runs.were_of_layers() == by_layer
    assert seen == [True] * 7 * LAYERS


class Impatient:
    """An engine of which two waits of three end before the layer is there, as when the process was
    stopped meanwhile."""

    def __init__(self, engine):
        self._engine = engine
        self.waits = 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def wait_layer(self, job, layer, timeout):
        self.waits += 1
        return self.waits % 3 == 0 and self._engine.wait_layer(job, layer, timeout)


def test_a_layer_is_waited_for_until_it_is_there(make):
    pair = make()
    ready(pair)
    assert load(pair, "within", TABLES[3]) == Results()
    pair.worker._engine = engine = Impatient(pair.worker._engine)
    seen: list[bool] = []
    at_layer = is_there(pair, TABLES[1], seen)
    assert load(pair, "next", TABLES[1], at_layer=at_layer) == Results()
    assert seen == [True] * LAYERS
    assert engine.waits == 3 * LAYERS


def test_layers_are_waited_for_together_where_that_is_wanted(make):
    pair = make(enable_layerwise=False)
    ready(pair)
    for table in TABLES[1:3]:
        runs = Runs(pair)
        assert load(pair, "within", table) == Results()
        assert not runs.were_of_layers()


def test_a_pass_that_no_longer_asks_ends_the_engine(make):
    pair = make()
    ready(pair)
    assert load(pair, "within", TABLES[3]) == Results()
    del pair.caches["layer.1"]
    with pytest.raises(LoadLost, match="without asking"):
        load(pair, "next", TABLES[1])
    pair.worker._loads.clear()


def test_only_where_it_was_asked_for(make):
    pair = make(load_in_step="never")
    ready(pair)
    assert pair.matched(pair.add("next", TOKENS)) == (HIT, True)


def test_not_beside_others(make):
    pair = make()
    ready(pair)
    other = pair.add("other", list(range(500, 520)))
    pair.step((other, TABLES[1][:2], 0, 20))
    request = pair.add("next", TOKENS)
    assert pair.matched(request) == (HIT, True)
    finish(pair, other)
    assert pair.matched(request) == (HIT, False)


def test_not_two_at_a_time(make):
    pair = make()
    ready(pair)
    one, two = pair.add("one", TOKENS), pair.add("two", TOKENS)
    assert pair.matched(one) == (HIT, False)
    pair.scheduler.allocated(one, (TABLES[1],), HIT)
    assert pair.matched(two) == (HIT, True)


@pytest.mark.parametrize(("overlapping", "within"), [(False, True), (True, False)])
def test_what_no_drive_holds_must_not_fail(make, overlapping, within):
    pair = make(backend="local", overlapping=overlapping)
    warm(pair)
    request = pair.add("proves", TOKENS)
    pair.matched(request)
    pair.scheduler.allocated(request, (OTHER_TABLE,), HIT)
    pair.wait_for_load()
    finish(pair, request, "first")
    assert pair.matched(pair.add("next", TOKENS)) == (HIT, not within)


def suits(pair: Pair, runs: list[tuple[str, int]]) -> bool:
    """Whether three chunks that lie so would be loaded within the step, were nothing else to do."""
    (namespace,) = pair.worker._namespaces
    return pair.scheduler._in_step.suits("proves", namespace, 3, runs, 3)


def test_a_namespace_is_proven_by_a_load_of_its_own(make):
    pair = make(overlapping=True)
    ready(pair)
    assert pair.scheduler.reset_cache()
    warm(pair)
    on_the_drive(pair)
    finish(pair, "first")
    request = pair.add("next", TOKENS)
    assert pair.matched(request) == (HIT, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), HIT)
    pair.wait_for_load()
    finish(pair, request)
    assert load(pair, "within", TABLES[3]) == Results()


def test_a_load_of_another_connector_takes_nothing_back(make):
    pair = make()
    ready(pair)
    pair.report(Results(received={"theirs"}))
    assert load(pair, "within", TABLES[3]) == Results()


@pytest.mark.parametrize("overlapping", [False, True])
def test_loads_of_requests_that_end_with_their_step_come_to_an_end(make, overlapping):
    """Or they would count as on their way, and whatever comes after them as late."""
    pair = make(overlapping=overlapping, load_policy="auto")
    pair.scheduler._probe.stop()
    teach(pair, tokens_a_second=1e3, bytes_a_second=1e9)
    ready(pair)
    for turn in range(3):
        assert load(pair, f"ends {turn}", TABLES[1 + turn]) == Results()
        assert pair.scheduler._chooser._queued("local") == 0
    assert not pair.scheduler._in_step._loads


def test_what_the_drive_must_give_goes_beside_the_steps(make, tmp_path, memory):
    pair = make()
    warm(pair)
    on_the_drive(pair)
    pair.close()
    for file in memory.iterdir():
        file.unlink()
    pair = make()
    request = pair.add("proves", TOKENS)
    assert pair.matched(request) == (HIT, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), HIT)
    pair.wait_for_load()
    assert not suits(pair, [("gds", 3)])
    assert suits(pair, [("local", 3)])


def prepared(make, by_layer: bool, **others) -> Pair:
    """The next load within a step comes layer by layer, or as a whole."""
    pair = make(**others)
    ready(pair)
    if by_layer:
        assert load(pair, "is asked for", TABLES[1]) == Results()
    return pair


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
def test_damage_in_memory_is_read_from_the_drive_within_the_step(
    make, memory, overlapping, by_layer
):
    pair = prepared(make, by_layer, overlapping=overlapping)
    damage(memory / "pool.data")
    assert load(pair, "within", TABLES[3]) == Results()
    assert same(pair, TABLES[3])
    assert pair.worker._engine.metrics()["load_chunks_reread"] == 3


@pytest.mark.parametrize("by_layer", [False, True])
def test_damage_of_both_is_computed_where_vllm_can_take_the_token_back(
    make, tmp_path, memory, by_layer
):
    pair = prepared(make, by_layer)
    damage(memory / "pool.data")
    damage(tmp_path / "store" / "pool.data")
    results = load(pair, "within", TABLES[3])
    assert results.invalid_blocks == set(TABLES[3][:12])
    assert pair.worker._stats.data["failed_loads"] == 1
    # Nothing is saved of a step that computed over it, and the next load is beside the steps.
    assert not pair.worker._saves
    assert not suits(pair, [("local", 3)])


@pytest.mark.parametrize("by_layer", [False, True])
def test_damage_of_both_ends_an_engine_that_would_keep_the_token(make, tmp_path, memory, by_layer):
    pair = prepared(make, by_layer, overlapping=True)
    damage(memory / "pool.data")
    damage(tmp_path / "store" / "pool.data")
    with pytest.raises(LoadLost, match="load_in_step: never"):
        load(pair, "within", TABLES[3])
    pair.worker._loads.clear()
