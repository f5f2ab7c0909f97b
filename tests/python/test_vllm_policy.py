"""load_policy: auto, through both halves: what is measured, what is chosen, what is counted."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from halves import COPY, OTHER_TABLE, TOKENS, Pair, start_load, step_output, warm
from penstock import Config, Engine
from penstock.config import flatten
from penstock.probe import Probe
from penstock.rates import attended
from penstock.vllm.messages import LoadFailure, WorkerReport
from penstock.vllm.step_timer import PENDING, StepTimer
from policy_cases import teach
from vllm.v1.outputs import KVConnectorOutput

LONG = list(range(3, 403))  # 400 tokens: enough for a step to be measured
LONG_TABLE = list(range(1, 26))


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """The probe is stopped: these tests say themselves how fast the drive is."""
    monkeypatch.setattr(Probe, "_run", lambda self: None)
    made = Pair(tmp_path, load_policy="auto")
    yield made
    made.close()


def counts(pair: Pair) -> dict[str, float]:
    stats = pair.worker.take_stats()
    return stats.data if stats is not None else {}


def test_computes_while_a_rate_is_unknown(pair):
    warm(pair)
    for rates in ((None, None), (1e3, None)):
        teach(pair, *rates)
        request = pair.add(f"asks with {rates}", TOKENS)
        assert pair.matched(request) == (0, False)
        counts(pair)
        pair.step((request, OTHER_TABLE, 0, 200))
        assert counts(pair)["policy_unknown"] == 1
        pair.scheduler.finished(request)


def test_loads_what_comes_sooner_and_computes_what_does_not(pair):
    warm(pair)
    teach(pair, 1e3, 1e9)  # 192 ms to compute, 0.2 ms to load
    load = start_load(pair, "loaded")
    assert pair.wait_for_load().received == {"loaded"}
    pair.step()
    seen = counts(pair)
    assert (seen["policy_loads"], seen["load_predictions"]) == (1, 1)
    assert seen["load_error_sum"] > 0
    pair.scheduler.finished(load)
    for _ in range(50):
        teach(pair, 1e7, 1e6)  # 19 us and 190 ms
    request = pair.add("computed", TOKENS)
    assert pair.matched(request) == (0, False)
    pair.step((request, OTHER_TABLE, 0, 200))
    assert counts(pair)["policy_computes"] == 1


def test_a_request_that_was_asked_often_is_counted_once(pair):
    warm(pair)
    teach(pair, 1e3, 1e9)
    request = pair.add("often", TOKENS)
    for _ in range(20):
        assert pair.matched(request) == (192, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 192)
    pair.wait_for_load()
    assert counts(pair)["policy_loads"] == 1


def test_requests_that_wait_move_the_balance_to_loading(pair):
    warm(pair)
    seconds = 3 * COPY / 1e6
    teach(pair, 192 / seconds / 0.2, 1e6)  # computing takes a fifth of the load
    request = pair.add("first", TOKENS)
    assert pair.matched(request) == (0, False)
    for i in range(40):
        pair.add(f"waits {i}", [1000 + i, *TOKENS])
    assert pair.matched(request) == (192, True)


def test_the_prediction_is_the_deadline(pair):
    warm(pair)
    teach(pair, 1.0, 1e4)  # 192 s against 20 s: more than the configured ten
    request = pair.add("slow", TOKENS)
    assert pair.matched(request) == (192, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 192)
    (load,) = pair.scheduler.build_step(step_output()).loads
    assert load.deadline == 10.0
    pair.scheduler.finished(request)
    for _ in range(50):
        teach(pair, None, 1e6)
    pair.scheduler.take_output(KVConnectorOutput(finished_recving={"slow"}))
    request = pair.add("fast", TOKENS)
    assert pair.matched(request) == (192, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 192)
    (load,) = pair.scheduler.build_step(step_output()).loads
    assert load.deadline == pytest.approx(1.5 * 3 * COPY / 1e6, rel=0.05)


def test_a_load_that_is_late_makes_the_rate_unknown_and_pauses_nothing(pair):
    warm(pair)
    teach(pair, 1e3, 1e9)
    start_load(pair, "late")
    report = WorkerReport({"late": LoadFailure(0, "timeout")})
    pair.scheduler.take_output(
        KVConnectorOutput(finished_recving={"late"}, kv_connector_worker_meta=report)
    )
    assert pair.matched(pair.add("next", [*TOKENS, 5])) == (0, False)
    teach(pair, None, 1e9)
    assert pair.matched(pair.add("after a probe", [*TOKENS, 6])) == (192, True)


def test_a_load_that_is_late_for_the_configured_deadline_pauses(tmp_path):
    pair = Pair(tmp_path, load_policy="always")
    warm(pair)
    start_load(pair, "late")
    report = WorkerReport({"late": LoadFailure(0, "timeout")})
    pair.scheduler.take_output(
        KVConnectorOutput(finished_recving={"late"}, kv_connector_worker_meta=report)
    )
    assert pair.matched(pair.add("next", [*TOKENS, 5])) == (0, False)
    pair.close()


def test_steps_of_prompts_are_timed_and_others_are_not(pair):
    request = pair.add("long", LONG)
    meta = pair.scheduler.build_step(step_output((request, LONG_TABLE, 0, 300)))
    assert meta.prefill == (300, attended(0, 300))
    pair.worker.fence(meta)
    pair.worker.submit_saves(meta)
    pair.worker.results(set())
    report = pair.worker.take_report()
    assert report is not None
    tokens, pairs, seconds = report.steps
    assert (tokens, pairs) == (300, attended(0, 300)) and 0 < seconds < 1
    rest = step_output((request, LONG_TABLE, 300, 100))
    assert pair.scheduler.build_step(rest).prefill is None  # too small to tell
    others = [pair.add(f"decodes {i}", LONG) for i in range(300)]
    decoding = step_output(*((other, LONG_TABLE, 399, 1) for other in others))
    assert pair.scheduler.build_step(decoding).prefill is None


def test_errors_of_step_predictions_are_counted(pair):
    for tokens_a_second in (1e3, 2e3):
        teach(pair, tokens_a_second, None)
    pair.step()
    seen = counts(pair)
    assert seen["prefill_predictions"] == 3  # the first three were learnt before there was a rate
    assert seen["prefill_error_sum"] > 1  # the first of them took half of what was predicted


def test_a_timer_measures_a_bounded_number_of_steps():
    timer, seen = StepTimer("cpu"), array("d")
    for _ in range(PENDING + 5):
        timer.begin()
        timer.end(256, 0)
    timer.collect(seen)
    assert len(seen) == 3 * PENDING
    timer.begin()
    timer.end(256, 0)
    timer.collect(seen)
    assert len(seen) == 3 * PENDING + 3


def test_the_probe_reads_what_is_stored(tmp_path):
    pair = Pair(tmp_path)
    store = flatten({"cache_dir": str(tmp_path / "store"), "max_cache_size_gb": 1})
    engine = Engine.open(Config.from_entries([*store, ("min_free_gb", ["0"], False)]), [])
    assert engine.probe_drives(1 << 20) is None
    warm(pair)
    size, seconds = engine.probe_drives(1 << 20)
    assert size == 3 * COPY and seconds > 0  # three copies of a block each
    engine.close()
    pair.close()


@pytest.mark.parametrize("backend", ["gds", "local"])
def test_only_a_load_from_a_drive_spares_the_probe_a_look_at_it(tmp_path, monkeypatch, backend):
    heard: list[str] = []
    monkeypatch.setattr(Probe, "_run", lambda self: None)
    monkeypatch.setattr(Probe, "loaded", lambda self: heard.append(backend))
    with tempfile.TemporaryDirectory(prefix="penstock-test-", dir="/dev/shm") as memory:
        local = {"directory": f"{memory}/local", "max_cache_size_gb": 0.05}
        pair = Pair(tmp_path, load_policy="auto", backend=backend, local_config=local)
        teach(pair, tokens_a_second=1e3, bytes_a_second=1e9)
        warm(pair)
        start_load(pair, "loads")
        pair.wait_for_load()
        pair.close()
    assert heard == (["gds"] if backend == "gds" else [])


def test_the_probe_takes_a_hundredth_of_the_time_and_rests_while_loads_tell(monkeypatch):
    monkeypatch.setattr(Probe, "INTERVAL", 0.01)
    calls: list[float] = []
    enough = threading.Event()

    def measure(size: int) -> tuple[int, float]:
        calls.append(time.monotonic())
        time.sleep(0.002)
        if len(calls) == 3:
            enough.set()
        return size, 0.002

    probe = Probe(measure)
    assert enough.wait(10)
    probe.stop()
    assert min(b - a for a, b in itertools.pairwise(calls)) >= 0.002 / Probe.SHARE
    assert probe.take() == (Probe.SIZE, 0.002)
