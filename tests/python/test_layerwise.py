"""python/penstock/layerwise.py over the real core, KV in the host's memory."""

from __future__ import annotations

import time

import pytest
import torch
from layerwise_cases import LAYERS, LOADED, Model
from penstock import PenstockError, layerwise
from penstock.layerwise import LoadFailed


@pytest.fixture
def warm(tmp_path):
    model = Model(tmp_path, "cpu")
    saved = model.save()
    model.engine.close()
    return tmp_path, saved


def test_each_layer_is_right_when_it_is_yielded(warm):
    directory, saved = warm
    model = Model(directory, "cpu")
    seen = []
    for layer in model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS):
        assert torch.equal(model.kv[layer, LOADED], saved[layer])
        seen.append(layer)
    assert seen == list(range(LAYERS))


def test_a_layer_is_yielded_while_later_ones_are_still_to_come(warm):
    """Reads come layer by layer, one of each chunk; from the seventh on they never return."""
    directory, saved = warm
    model = Model(directory, "cpu", fault="read:7+:stuck")
    steps = model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS, deadline_s=2.0)
    for layer in (0, 1):
        assert next(steps) == layer
        assert torch.equal(model.kv[layer, LOADED], saved[layer])
    with pytest.raises(LoadFailed) as failure:
        next(steps)
    assert failure.value.status == "timeout"


def test_damage_ends_the_loop_with_an_error(warm):
    directory, _ = warm
    with (directory / "pool.data").open("r+b") as file:
        file.seek(4096 + (2 << 20) + 100)  # a layer in the middle of the first chunk
        file.write(b"damage!")
    model = Model(directory, "cpu")
    with pytest.raises(LoadFailed) as failure:
        list(model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS))
    assert failure.value.status == "corrupt"


def test_leaving_the_loop_cancels_the_load_and_nothing_is_written_after_it(warm):
    directory, _ = warm
    model = Model(directory, "cpu", fault="read:7+:stuck")
    for _ in model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS):
        break
    before = model.kv.clone()
    assert not model.engine.wait(0.2)
    assert torch.equal(before, model.kv)


def test_a_store_that_is_left_early_saves_nothing(tmp_path):
    model = Model(tmp_path, "cpu")
    steps = model.transfers.store_layer(model.chunks(LOADED), layers=LAYERS)
    next(steps)
    steps.close()
    with pytest.raises(LoadFailed) as failure:
        list(model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS))
    assert failure.value.status == "not found"


def test_results_of_other_jobs_are_kept(warm):
    directory, _ = warm
    model = Model(directory, "cpu")
    chunks = model.chunks(LOADED)
    job = model.engine.submit("load", 1, 0, chunks.keys, chunks.parents, [0] * 3, chunks.rows)
    list(model.transfers.retrieve_layer(chunks, layers=LAYERS))
    assert model.transfers.result(job).status == "ok"


def test_a_result_is_taken_once(warm):
    directory, _ = warm
    model = Model(directory, "cpu")
    job = model.transfers.submit("load", model.chunks(LOADED), None)
    assert model.transfers.result(job).status == "ok"
    for ask in (model.transfers.result, model.transfers.end):
        with pytest.raises(PenstockError, match=f"job {job} is over"):
            ask(job)


def test_a_loop_whose_result_was_dropped_ends(warm, monkeypatch):
    directory, _ = warm
    model = Model(directory, "cpu")
    monkeypatch.setattr(layerwise, "_KEPT", 1)
    loops = []
    for count in (1, 2):
        loops.append(model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS))
        next(loops[-1])
        while model.engine.metrics()["load_seconds_le_inf"] < count:
            time.sleep(0.001)  # until it is over
    last = model.transfers.submit("load", model.chunks(LOADED), None)
    assert model.transfers.result(last).status == "ok"
    with pytest.raises(PenstockError, match="is over, and its result"):
        list(loops[0])
    loops[1].close()
