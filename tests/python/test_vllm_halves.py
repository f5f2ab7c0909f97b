"""Both halves of the connector against the real core and vLLM's own request and step classes.

What needs a whole engine is in tests/vllm; here are the rules that an engine shows rarely.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import halves
import pytest
import torch
from halves import (
    COPY,
    OTHER_TABLE,
    TABLE,
    TOKENS,
    Pair,
    new_request,
    start_load,
    step_output,
    warm,
    write_model,
)
from penstock.vllm.inflight import InFlight
from penstock.vllm.messages import LoadFailure, StepMetadata, WorkerReport
from penstock.vllm.worker import Rank, Results
from vllm.v1.outputs import KVConnectorOutput


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def test_what_was_saved_comes_back_to_other_rows(pair):
    warm(pair)
    start_load(pair, "second")
    results = pair.wait_for_load()
    assert results == Results(received={"second"})
    for cache in pair.caches.values():
        assert torch.equal(cache[TABLE[:12]], cache[OTHER_TABLE[:12]])
        assert not cache[OTHER_TABLE[12]].any()  # past the hit: not a byte is written


def test_matching_has_no_side_effects(pair):
    warm(pair)
    request = pair.add("asking", TOKENS)
    assert [pair.matched(request) for _ in range(50)] == [(192, True)] * 50
    assert pair.scheduler.build_step(step_output()).loads == []
    assert pair.matched(request, 96) == (96, True)
    assert pair.matched(request, 192) == (0, False)


@pytest.mark.parametrize(("tokens", "hit"), [(63, 0), (64, 0), (65, 64), (128, 64), (129, 128)])
def test_one_token_is_always_computed(pair, tokens, hit):
    warm(pair)
    assert pair.matched(pair.add("prompt", TOKENS[:tokens])) == (hit, hit > 0)


def test_a_second_request_waits_for_the_same_chunk(pair):
    warm(pair)
    start_load(pair, "loading")
    waiting = pair.add("waiting", [*TOKENS, 5])
    assert pair.scheduler.matched(waiting, 0) == (None, False)
    pair.wait_for_load()
    assert pair.matched(waiting) == (192, True)


def test_a_failed_load_is_claimed_once_and_forgotten_by_the_others(pair):
    warm(pair)
    other = pair.add("other", [*TOKENS, 5])
    assert pair.matched(other) == (192, True)
    failed = start_load(pair, "failed")
    report = WorkerReport({"failed": LoadFailure(1, "corrupt")})
    pair.scheduler.take_output(
        KVConnectorOutput(finished_recving={"failed"}, kv_connector_worker_meta=report)
    )
    assert pair.matched(failed) == (0, False)
    assert pair.matched(other) == (64, True)
    # Nothing is saved from a request whose load failed.
    meta = pair.scheduler.build_step(step_output((failed, OTHER_TABLE, 64, 136)))
    assert meta.saves == []


def test_a_stuck_drive_is_left_alone_for_a_while(pair):
    warm(pair)
    start_load(pair, "stuck")
    report = WorkerReport({"stuck": LoadFailure(0, "timeout")})
    pair.scheduler.take_output(
        KVConnectorOutput(finished_recving={"stuck"}, kv_connector_worker_meta=report)
    )
    assert pair.scheduler.matched(pair.add("next", [*TOKENS, 5]), 0) == (0, False)


def test_damage_is_reported_by_block_and_the_prefix_kept(pair, tmp_path):
    warm(pair)
    pool = tmp_path / "store" / "pool.data"
    with pool.open("r+b") as file:
        file.seek(4096 + COPY + 100)  # the second copy
        file.write(b"damage!")
    start_load(pair, "second")
    results = pair.wait_for_load()
    assert results.received == {"second"}
    assert results.invalid_blocks == set(OTHER_TABLE[4:12])
    stats = pair.worker.take_stats()
    assert stats.data["failed_loads"] == 1
    assert (stats.data["restored_tokens"], stats.data["failed_tokens"]) == (64, 128)


def test_an_aborted_load_is_reported_once_and_without_blocks(pair):
    warm(pair)
    request = start_load(pair, "doomed")
    pair.scheduler.finished(request)
    results = pair.wait_for_load(ended={"doomed"})
    assert results.received == {"doomed"}
    assert not results.invalid_blocks and not results.failed
    assert not any(pair.step().received for _ in range(5))


def test_new_blocks_are_fenced_and_hits_are_not(pair):
    request = pair.add("hit", TOKENS)
    meta = pair.scheduler.build_step(step_output((request, TABLE, 96, 104)))
    assert meta.allocated.tolist() == TABLE[6:]


def test_blocks_of_a_load_are_fenced_when_it_starts(pair):
    warm(pair)
    request = pair.add("second", TOKENS)
    assert pair.matched(request, 32) == (160, True)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 160)
    assert pair.scheduler.build_step(step_output()).allocated.tolist() == OTHER_TABLE[2:]


def test_blocks_that_another_connector_may_load_into_are_fenced(pair):
    request = pair.add("theirs", list(range(1000, 1200)))
    assert pair.matched(request, 32) == (0, False)
    pair.scheduler.allocated(request, (OTHER_TABLE,), 0)
    assert pair.scheduler.build_step(step_output()).allocated.tolist() == OTHER_TABLE[2:]
    request.num_computed_tokens = 160  # their load is complete, and vLLM schedules it
    pair.scheduler.allocated(request, (OTHER_TABLE,), 0)
    assert pair.scheduler.build_step(step_output()).allocated.tolist() == OTHER_TABLE[10:]


def test_hits_of_a_request_that_is_left_alone_are_not_fenced(pair):
    """A save of somebody else may still have to read them."""
    request = new_request("session", TOKENS)
    request.resumable = True
    pair.scheduler.on_new_request(request)
    assert pair.scheduler.matched(request, 96) == (0, False)
    pair.scheduler.allocated(request, (TABLE,), 0)
    assert pair.scheduler.build_step(step_output()).allocated.tolist() == TABLE[6:]
    pair.scheduler.finished(request)
    assert not pair.scheduler._computed


def test_only_complete_chunks_are_saved(pair):
    request = pair.add("growing", TOKENS)
    meta = pair.scheduler.build_step(step_output((request, TABLE, 0, 100)))
    assert [list(save.chunks) for save in meta.saves] == [[0]]
    request.append_output_token_ids(list(range(60)))  # 260 tokens, of which 256 are computed
    cached = step_output()
    cached.scheduled_cached_reqs.req_ids.append("growing")
    cached.scheduled_cached_reqs.new_block_ids.append((list(range(14, 18)),))
    cached.scheduled_cached_reqs.num_computed_tokens.append(100)
    cached.num_scheduled_tokens["growing"] = 155
    meta = pair.scheduler.build_step(cached)
    assert [list(save.chunks) for save in meta.saves] == [[1, 2]]
    assert meta.allocated.tolist() == list(range(14, 18))
    cached.scheduled_cached_reqs.num_computed_tokens[0] = 255
    cached.scheduled_cached_reqs.new_block_ids[0] = None
    cached.num_scheduled_tokens["growing"] = 1
    assert [list(save.chunks) for save in pair.scheduler.build_step(cached).saves] == [[3]]


@pytest.mark.parametrize(("scheduled", "samples"), [(100, False), (199, False), (200, True)])
def test_a_step_says_whether_a_token_comes_out_of_it(pair, scheduled, samples):
    request = pair.add("prompt", TOKENS)
    meta = pair.scheduler.build_step(step_output((request, TABLE, 0, scheduled)))
    assert meta.samples is samples


def test_decoded_tokens_are_left_out_when_asked(tmp_path):
    pair = Pair(tmp_path, save_decode_cache=False)
    request = pair.add("growing", TOKENS[:100])
    request.append_output_token_ids(list(range(100)))
    meta = pair.scheduler.build_step(step_output((request, TABLE, 0, 200)))
    assert [list(save.chunks) for save in meta.saves] == [[0]]
    pair.close()


def test_bytes_in_flight_are_bounded(pair):
    pair.scheduler._inflight = InFlight(max_bytes=4 * COPY, deadline=10)
    warm(pair)
    tokens = list(range(300, 500))
    pair.compute_and_save(pair.add("another", tokens), list(range(40, 53)))
    start_load(pair, "loading")
    waiting = pair.add("waiting", tokens)
    pair.scheduler._runs(pair.scheduler._requests["waiting"])
    assert pair.scheduler.matched(waiting, 0) == (None, False)
    pair.wait_for_load()
    assert pair.matched(waiting) == (192, True)


def test_nothing_for_requests_that_skip_caches_and_for_adapters(pair):
    warm(pair)
    skipping = pair.add("skipping", TOKENS, skip_reading_prefix_cache=True)
    assert pair.scheduler.matched(skipping, 0) == (0, False)
    adapted = new_request("adapted", TOKENS)
    adapted.lora_request = SimpleNamespace(lora_name="x")
    pair.scheduler.on_new_request(adapted)
    assert pair.scheduler.matched(adapted, 0) == (0, False)
    meta = pair.scheduler.build_step(step_output((adapted, TABLE, 0, 200)))
    assert meta.saves == []


def test_a_reset_starts_a_new_epoch(pair):
    warm(pair)
    assert pair.scheduler.reset_cache()
    request = pair.add("after", TOKENS)
    assert pair.matched(request) == (0, False)
    pair.compute_and_save(request, TABLE)
    assert pair.matched(pair.add("later", TOKENS)) == (192, True)


def test_another_process_finds_it_and_another_model_does_not(tmp_path):
    one = Pair(tmp_path)
    warm(one)
    one.close()
    two = Pair(tmp_path)
    assert two.matched(two.add("again", TOKENS)) == (192, True)
    two.close()
    write_model(tmp_path / "model", value=2)  # the same name, size and header
    three = Pair(tmp_path)
    assert three.matched(three.add("again", TOKENS)) == (0, False)
    three.close()


def test_hashes_of_16_bytes_leave_the_connector_idle(pair):
    request = new_request("short", TOKENS)
    request.block_hashes = [h[:16] for h in request.block_hashes]
    pair.scheduler.on_new_request(request)
    assert pair.scheduler.matched(request, 0) == (0, False)
    assert pair.scheduler._idle
    assert pair.scheduler.build_step(step_output((request, TABLE, 0, 200))).saves == []


def test_a_model_without_weight_files_leaves_the_connector_idle(tmp_path):
    (tmp_path / "model").mkdir()
    pair = Pair(tmp_path)
    assert pair.scheduler._idle
    assert pair.matched(pair.add("any", TOKENS)) == (0, False)
    pair.close()


@pytest.mark.parametrize(("caches", "cache_gb", "kept"), [(0, 0, 0), (0, 4, 3), (1, 0, 3)])
def test_media_that_a_counter_names_are_left_alone(tmp_path, monkeypatch, caches, cache_gb, kept):
    """With neither cache vLLM names them so, and the next process would find others' KV."""
    config = halves.vllm_config(tmp_path / "model")
    config.cache_config.enable_prefix_caching = bool(caches)
    config.model_config.multimodal_config = SimpleNamespace(mm_processor_cache_gb=cache_gb)
    monkeypatch.setattr(halves, "vllm_config", lambda *_: config)
    pair = Pair(tmp_path)
    request = new_request("shows", TOKENS)
    request.mm_features = [object()]
    pair.scheduler.on_new_request(request)
    meta = pair.scheduler.build_step(step_output((request, TABLE, 0, len(TOKENS))))
    assert sum(len(save.groups) for save in meta.saves) == kept
    pair.close()


def test_ranks_that_disagree_leave_the_connector_idle(pair):
    handshake = pair.worker.handshake
    other = type(handshake)(layout="{}", copy_bytes=handshake.copy_bytes)
    pair.scheduler.set_handshake({(0, 0): handshake, (0, 1): other})
    assert pair.scheduler._idle


@pytest.mark.parametrize(
    ("rank", "replicas", "shard", "writes"), [(0, 1, 0, True), (3, 1, 3, True), (3, 4, 0, False)]
)
def test_ranks_with_the_same_kv_share_a_shard_and_one_writes(rank, replicas, shard, writes):
    place = Rank.of(rank, replicas)
    assert place.shard == shard
    assert place.writes(SimpleNamespace(first_key=8)) is writes
    writers = [r for r in range(4) if Rank.of(r, 4).writes(SimpleNamespace(first_key=7))]
    assert writers == [3]


def test_a_step_without_work_costs_nothing(pair):
    assert pair.scheduler.build_step(step_output()) == StepMetadata()


def test_a_trace_of_what_a_rank_did(tmp_path):
    pair = Pair(tmp_path, trace_file=str(tmp_path / "out.json"))
    warm(pair)
    start_load(pair, "second")
    pair.wait_for_load()
    pair.close()
    events = json.loads((tmp_path / "out.0.json").read_text())["traceEvents"]
    assert {"save", "load"} <= {event["name"] for event in events}


def test_a_trace_that_cannot_be_written_is_told_at_the_start(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        Pair(tmp_path, trace_file=str(tmp_path / "nowhere" / "out.json"))
