"""Which rows a load reads into and a save reads from; and the loads under way."""

from __future__ import annotations

import pickle
import time
from types import SimpleNamespace

from penstock.vllm.inflight import InFlight
from penstock.vllm.layout import GroupPlan, Plan
from penstock.vllm.messages import (
    Load,
    LoadFailure,
    Save,
    StepMetadata,
    WorkerReport,
    fill_load,
    fill_save,
)

CHAIN = [bytes([i + 1]) * 32 for i in range(8)]


def group(block: int, window: int | None = None, chunk: int = 64) -> GroupPlan:
    chunks = max(1, -(-(window - 1) // chunk)) if window else 0
    return GroupPlan("x", block, chunk // block, window, chunks, ("layer",))


def plan(*groups: GroupPlan) -> Plan:
    return Plan(chunk=64, hash_block_size=16, num_blocks=100, groups=groups)


def entries(work: Load | Save, of: Plan) -> list[tuple[int, int, list[int]]]:
    found, at = [], 0
    for chunk, index in zip(work.chunks, work.groups, strict=True):
        count = of.groups[index].rows_per_chunk
        found.append((chunk, index, work.rows[at : at + count].tolist()))
        at += count
    assert at == len(work.rows)
    return found


def test_a_load_leaves_out_rows_of_a_local_hit():
    one = plan(group(16))
    load = Load("r", begin=96, end=192)
    fill_load(load, one, CHAIN, [list(range(1, 20))])
    assert entries(load, one) == [(1, 0, [-1, -1, 7, 8]), (2, 0, [9, 10, 11, 12])]
    assert bytes(load.keys) == CHAIN[1] + CHAIN[2]
    assert bytes(load.parents) == CHAIN[0] + CHAIN[1]


def test_the_first_chunk_has_no_parent():
    one = plan(group(16))
    load = Load("r", begin=0, end=64)
    fill_load(load, one, CHAIN, [[1, 2, 3, 4]])
    assert bytes(load.parents) == bytes(32)


def test_a_load_leaves_out_chunks_outside_a_window():
    two = plan(group(16), group(32, window=33))
    load = Load("r", begin=0, end=192)
    fill_load(load, two, CHAIN, [list(range(1, 13)), [0, 0, 0, 0, 0, 20]])
    assert entries(load, two) == [
        (0, 0, [1, 2, 3, 4]),
        (1, 0, [5, 6, 7, 8]),
        (2, 0, [9, 10, 11, 12]),
        (2, 1, [-1, 20]),
    ]


def test_a_save_of_a_window_stores_what_a_hit_on_it_would_read():
    two = plan(group(16), group(32, window=33))
    save = Save("r")
    assert fill_save(save, two, CHAIN, [list(range(1, 9)), [0, 0, 0, 20]], 1)
    assert entries(save, two) == [(1, 0, [5, 6, 7, 8]), (1, 1, [-1, 20])]


def test_a_save_is_refused_when_the_window_is_gone():
    """A local hit has null blocks before its window: zeros must not be saved in their place."""
    two = plan(group(16), group(32, window=33))
    save = Save("r")
    assert not fill_save(save, two, CHAIN, [list(range(1, 9)), [0, 0, 0, 0]], 1)
    assert not save.groups and not save.keys and not save.rows


def test_a_save_is_refused_when_full_attention_lacks_a_block():
    one = plan(group(16))
    assert not fill_save(Save("r"), one, CHAIN, [[1, 2, 0, 4]], 0)
    assert not fill_save(Save("r"), one, CHAIN, [[1, 2, 3]], 0)


def test_messages_survive_the_trip_to_the_worker():
    one = plan(group(16))
    save = Save("r", first_key=5)
    fill_save(save, one, CHAIN, [[1, 2, 3, 4]], 0)
    step = StepMetadata(namespaces={b"n" * 32: "{}"}, saves=[save])
    assert pickle.loads(pickle.dumps(step)) == step


def test_the_earliest_failure_of_all_ranks_counts():
    report = WorkerReport({"a": LoadFailure(3, "corrupt")})
    other = WorkerReport({"a": LoadFailure(1, "timeout"), "b": LoadFailure(0, "busy")})
    assert report.aggregate(other).failures == {
        "a": LoadFailure(1, "timeout"),
        "b": LoadFailure(0, "busy"),
    }


def test_a_chunk_that_is_being_loaded_is_known_until_the_load_ends():
    loads = InFlight(max_bytes=100, deadline=10)
    loads.start("a", (CHAIN[0], CHAIN[1]), 60)
    assert loads.is_loading(CHAIN[1]) and not loads.is_loading(CHAIN[2])
    loads.fail("a", LoadFailure(1, "corrupt"))
    loads.fail("a", LoadFailure(2, "corrupt"))
    assert loads.end("a") == LoadFailure(1, "corrupt")
    assert not loads.is_loading(CHAIN[1])
    assert loads.end("a") is None and loads.end("never seen") is None


def test_bytes_in_flight_are_bounded_but_one_load_always_passes():
    loads = InFlight(max_bytes=100, deadline=10)
    assert loads.has_room(1000)
    loads.start("a", (CHAIN[0],), 60)
    assert loads.has_room(40) and not loads.has_room(41)
    loads.end("a")
    assert loads.has_room(41)


def test_a_load_that_outlives_its_deadline_holds_nobody_back(monkeypatch):
    loads = InFlight(max_bytes=100, deadline=10)
    loads.start("a", (CHAIN[0],), 60)
    later = time.monotonic() + 12
    monkeypatch.setattr("penstock.vllm.inflight.time", SimpleNamespace(monotonic=lambda: later))
    assert not loads.is_loading(CHAIN[0])
    assert loads.has_room(100)
