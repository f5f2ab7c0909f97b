"""The trace of a save and a load: complete, in order, and nested."""

import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest
from penstock import _core
from penstock.trace import trace
from small_engine import COPY, LAYERS, open_engine, save_and_load

CLI = os.environ.get("PENSTOCK_CLI", "build/penstock")


def rows(recorded):
    """Complete events and instants by the name of their row, in the file's order."""
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in recorded["traceEvents"]
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    found = {}
    for event in recorded["traceEvents"]:
        if event["ph"] != "M":
            row = names[event["pid"], event["tid"]]
            found.setdefault((event["pid"], row), []).append(event)
    return found


def end(event):
    return event["ts"] + event.get("dur", 0)


def check_nesting(events):
    """In order of their begin; one that begins within another ends within it."""
    begins = [event["ts"] for event in events]
    assert begins == sorted(begins)
    slack = 0.002  # microseconds, of rounding
    for a, b in itertools.combinations(events, 2):
        apart = b["ts"] >= end(a) - slack
        assert apart or end(b) <= end(a) + slack, (a, b)


def check_job(events, kind, wait):
    """A job's row: the job around all, the index asked first."""
    job = next(event for event in events if event["name"] == kind)
    assert all(job["ts"] <= e["ts"] and end(e) <= end(job) + 0.002 for e in events)
    asked = next(event for event in events if event["name"] == wait)
    assert asked["ts"] == pytest.approx(job["ts"], abs=0.002)
    return job


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    work = tmp_path_factory.mktemp("trace")
    engine = open_engine(work)
    try:
        with trace(work / "out.json"):
            save_and_load(engine, chunks=3)
    finally:
        engine.close()
    return json.loads((work / "out.json").read_text())


def test_every_row_is_in_order_and_nested(recorded):
    assert recorded["otherData"]["lost_events"] == "0"
    for events in rows(recorded).values():
        check_nesting(events)


def test_a_save_and_a_load_have_their_rows(recorded):
    jobs = {row: events for (_, row), events in rows(recorded).items() if row.startswith("job ")}
    assert len(jobs) == 2
    saved = check_job(jobs["job 1"], "save", "reserve")
    loaded = check_job(jobs["job 2"], "load", "find")
    assert saved["args"] == {"chunks": 3, "bytes": 3 * COPY}
    assert loaded["args"] == {"chunks": 3, "bytes": 3 * COPY}
    assert end(saved) <= loaded["ts"]


def test_layers_become_ready_within_the_load_and_all_of_them(recorded):
    (events,) = (e for (_, row), e in rows(recorded).items() if row == "job 2")
    ready = [event["args"]["layers"] for event in events if event["name"] == "layers ready"]
    assert ready and ready == sorted(ready) and ready[-1] == LAYERS
    assert all(event["ph"] == "i" for event in events if event["name"] == "layers ready")


def test_a_run_is_gathered_before_it_is_written_and_read_before_it_is_scattered(recorded):
    steps = {1: [], 2: []}
    for (_, row), events in rows(recorded).items():
        if row.startswith("run "):
            for event in events:
                steps[event["args"]["job"]].append(event)
    assert {event["name"] for event in steps[1]} == {"gather", "write"}
    assert {event["name"] for event in steps[2]} == {"read", "scatter"}
    for first, then, job in (("gather", "write", 1), ("read", "scatter", 2)):
        before = [event for event in steps[job] if event["name"] == first]
        after = [event for event in steps[job] if event["name"] == then]
        assert len(before) == len(after) >= 1
        for event in before:
            same = [e for e in after if e["args"]["chunk"] == event["args"]["chunk"]]
            assert min(e["ts"] for e in same) >= min(
                end(e) for e in before if e["args"]["chunk"] == event["args"]["chunk"]
            )


def test_the_index_threads_work_is_there(recorded):
    index = next(events for (_, row), events in rows(recorded).items() if row == "index")
    assert {"reserve", "commit", "lookup", "find"} <= {event["name"] for event in index}
    assert next(e for e in index if e["name"] == "lookup")["args"] == {"chunks": 4}


def test_nothing_is_recorded_before_and_after(tmp_path):
    engine = open_engine(tmp_path)
    try:
        save_and_load(engine, chunks=1)
    finally:
        engine.close()
    assert rows(json.loads(_core.stop_trace())) == {}


def test_the_last_events_are_kept(tmp_path):
    engine = open_engine(tmp_path)
    try:
        with trace(tmp_path / "out.json", capacity=2):
            save_and_load(engine, chunks=2)
    finally:
        engine.close()
    kept = json.loads((tmp_path / "out.json").read_text())
    events = [event for events in rows(kept).values() for event in events]
    assert len(events) == 2
    assert int(kept["otherData"]["lost_events"]) > 2
    assert any(event["name"] == "load" for event in events)


def test_demo_writes_one_trace_of_both_processes(tmp_path):
    out = tmp_path / "out.json"
    subprocess.run(
        [Path(CLI).resolve(), "demo", "--dir", tmp_path, "--tokens", "512", "--trace", out],
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = rows(json.loads(out.read_text()))
    by_process = {}
    for (pid, _), events in found.items():
        check_nesting(events)
        by_process.setdefault(pid, set()).update(event["name"] for event in events)
    save, load = sorted(by_process.values(), key=lambda names: "load" in names)
    assert {"save", "gather", "write", "commit"} <= save and "load" not in save
    assert {"load", "read", "scatter", "find"} <= load and "save" not in load
