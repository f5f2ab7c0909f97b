"""The connector's worker half over KV in GPU memory: every layout, order of streams, both halves.

Needs vLLM, a CUDA device and a build with CUDA; skipped elsewhere. The same runs on the host's
memory in tests/python.
"""

from __future__ import annotations

import sys
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICE = "cuda:0"
pytest.importorskip("vllm")  # an import that fails would end the whole run

import in_step_cases  # noqa: E402
import kv_layouts  # noqa: E402
from halves import LAYERS, OTHER_TABLE, TABLE, Pair, start_load, step_output, warm  # noqa: E402
from penstock.vllm.step_timer import StepTimer  # noqa: E402
from penstock.vllm.worker import Results  # noqa: E402
from vllm.utils.hashing import sha256  # noqa: E402
from vllm.v1.core import kv_cache_utils  # noqa: E402


@pytest.mark.parametrize("name", kv_layouts.LAYOUTS)
def test_rows_come_back_and_nothing_else_changes(name: str, tmp_path):
    kv_layouts.saved_and_loaded(kv_layouts.make(name, DEVICE), str(tmp_path))


def test_the_current_stream_is_the_one_that_is_passed():
    _, described = kv_layouts.make("LBHNC", DEVICE).describe()
    assert described.device == DEVICE
    assert described.stream() == torch.cuda.current_stream(0).cuda_stream
    with torch.cuda.stream(torch.cuda.Stream(0)):
        assert described.stream() == torch.cuda.current_stream(0).cuda_stream


def test_saved_on_a_gpu_is_not_read_on_a_cpu():
    """The host's attention packs a block otherwise."""
    prints = {kv_layouts.make("LBHNC", d).describe()[1].fingerprint for d in ("cpu", DEVICE)}
    assert len(prints) == 2


# About a tenth of a second of the GPU's clock: long beside a submit, short beside a deadline.
BUSY = 200_000_000


def test_a_save_reads_after_what_was_queued_before_it(tmp_path):
    layout = kv_layouts.make("LBHNC", DEVICE)
    source, target = kv_layouts.some_rows(layout)
    (buffer,) = layout.buffers
    with kv_layouts.Store(layout, str(tmp_path)) as store:
        torch.cuda._sleep(BUSY)
        buffer.fill_(7)  # what the forward pass writes
        job = store.submit("save", source)
        store.finish(job)
        buffer.fill_(9)
        store.move("load", target)
    for name in layout.names[0]:
        tensor = layout.tensors[name]
        assert (tensor[target[0][0]].view(torch.uint8) == 7).all()


def test_a_load_writes_after_what_was_queued_before_it(tmp_path):
    """The rows' last owner may still be computing on them."""
    layout = kv_layouts.make("LBHNC", DEVICE)
    source, target = kv_layouts.some_rows(layout)
    (buffer,) = layout.buffers
    with kv_layouts.Store(layout, str(tmp_path)) as store:
        buffer.fill_(5)
        store.move("save", source)
        torch.cuda._sleep(BUSY)
        buffer.fill_(9)
        store.move("load", target)
    torch.cuda.synchronize()
    for name in layout.names[0]:
        tensor = layout.tensors[name]
        assert (tensor[target[0][0]].view(torch.uint8) == 5).all()


def test_rows_that_are_released_are_saved_as_they_were_or_not_at_all(tmp_path):
    """A save in flight, its rows released and overwritten at once on the engine's stream."""
    layout = kv_layouts.make("LBHNC", DEVICE)
    source, target = kv_layouts.some_rows(layout)
    (buffer,) = layout.buffers
    stream = torch.cuda.current_stream(0).cuda_stream
    saved = 0
    for turn in range(20):
        with kv_layouts.Store(layout, str(tmp_path / str(turn))) as store:
            buffer.fill_(3)
            job = store.submit("save", source)
            store.engine.release_rows(0, [row for row in source[0] if row >= 0], stream=stream)
            buffer.fill_(9)
            assert store.engine.wait(10)
            (result,) = store.engine.poll()
            assert result.id == job and result.status in ("ok", "cancelled")
            if result.status == "ok":
                saved += 1
                store.move("load", target)
                tensor = layout.tensors[layout.names[0][0]]
                assert (tensor[target[0][0]].view(torch.uint8) == 3).all()
    print(f"{saved} of 20 were saved before their rows were released")


def test_a_step_is_timed_on_the_gpu_and_not_waited_for():
    timer, seen = StepTimer(DEVICE), array("d")
    torch.cuda.synchronize()
    timer.begin()
    torch.cuda._sleep(BUSY)
    timer.end(256, 10)
    timer.collect(seen)
    assert not seen  # it runs still
    torch.cuda.synchronize()
    timer.collect(seen)
    assert list(seen[:2]) == [256, 10]
    assert 0.02 < seen[2] < 1


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    kv_cache_utils.init_none_hash(sha256)
    made = Pair(tmp_path, device=DEVICE)
    yield made
    made.close()


def test_both_halves(pair):
    warm(pair)
    start_load(pair, "second")
    assert pair.wait_for_load() == Results(received={"second"})
    for cache in pair.caches.values():
        assert torch.equal(cache[TABLE[:12]], cache[OTHER_TABLE[:12]])
        assert not cache[OTHER_TABLE[12]].any()


def test_damage_is_found_on_the_gpu(pair, tmp_path):
    warm(pair)
    with (tmp_path / "store" / "pool.data").open("r+b") as file:
        file.seek(4096 + 100)
        file.write(b"damage!")
    start_load(pair, "second")
    results = pair.wait_for_load()
    assert results.received == {"second"}
    assert results.invalid_blocks == set(OTHER_TABLE[:12])


@pytest.fixture
def in_step(tmp_path):
    """A pair whose hits in memory are loaded within the step, and its memory."""
    kv_cache_utils.init_none_hash(sha256)
    with tempfile.TemporaryDirectory(prefix="penstock-test-", dir="/dev/shm") as directory:
        memory = Path(directory) / "local"
        pair = Pair(tmp_path, DEVICE, overlapping=True, **in_step_cases.settings(memory))
        in_step_cases.ready(pair)
        yield pair, memory
        pair.close()


def test_the_pass_sees_what_was_loaded_within_the_step(in_step):
    pair, _ = in_step
    table = in_step_cases.TABLES[3]
    request = pair.add("within", in_step_cases.TOKENS)
    assert pair.matched(request) == (in_step_cases.HIT, False)
    pair.scheduler.allocated(request, (table,), in_step_cases.HIT)
    meta = pair.scheduler.build_step(step_output((request, table, in_step_cases.HIT, 8)))
    pair.worker.fence(meta)
    pair.worker.start_loads(meta)
    seen = [cache[table[:12]].clone() for cache in pair.caches.values()]  # the forward pass
    pair.worker.submit_saves(meta)
    assert pair.report(pair.worker.results(set())) == Results()
    for copy, cache in zip(seen, pair.caches.values(), strict=True):
        assert torch.equal(copy, cache[TABLE[:12]])


def test_layers_are_there_when_the_pass_comes_to_them(in_step):
    pair, _ = in_step
    seen: list[bool] = []
    for turn, table in enumerate(in_step_cases.TABLES[1:]):
        at_layer = in_step_cases.is_there(pair, table, seen)
        runs = in_step_cases.Runs(pair)
        assert in_step_cases.load(pair, "within", table, at_layer=at_layer) == Results()
        assert runs.were_of_layers() == (turn > 0)  # the first shows that each layer is asked for
    assert seen == [True] * 3 * LAYERS


def test_damage_in_memory_is_read_from_the_drive_before_the_pass(in_step):
    pair, memory = in_step
    in_step_cases.damage(memory / "pool.data")
    table = in_step_cases.TABLES[1]
    assert in_step_cases.load(pair, "within", table) == Results()
    assert in_step_cases.same(pair, table)
    assert pair.worker._engine.metrics()["load_chunks_reread"] == 3
