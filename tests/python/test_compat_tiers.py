"""Backends by configuration: lists, what cannot start, age."""

from __future__ import annotations

import os
import shutil
import uuid

import pytest
import torch
from compat_cases import CHUNK, TOKENS, WHOLE, Model, pages_of
from penstock import PenstockError
from penstock.compat.lmcache import LMCacheEngineConfig
from penstock.spaces import Epochs

FROM, TO = pages_of(0), pages_of(1)


@pytest.fixture
def memory():
    directory = f"/dev/shm/penstock-test-{uuid.uuid4().hex}"
    yield {"directory": directory, "max_cache_size_gb": 0.05}
    shutil.rmtree(directory, ignore_errors=True)


def store_and_retrieve(model: Model) -> None:
    expected = model.at(FROM)
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected[:, :, :WHOLE])


@pytest.mark.parametrize("backend", ["gds", "local", ["local", "gds"], ["gds", "remote"]])
def test_every_backend_and_list_works(tmp_path, memory, backend):
    model = Model(tmp_path / "cache", backend=backend, local_config=memory)
    store_and_retrieve(model)
    assert model.config.backend == backend
    model.close()


def test_when_the_drive_cannot_start_memory_serves(tmp_path, memory, capfd):
    nowhere = tmp_path / "not-mounted" / "cache"
    model = Model(nowhere, backend=["local", "gds"], local_config=memory, log_level="warning")
    store_and_retrieve(model)
    assert model.engine.metrics()["backends_left_out"] == 1
    assert "not-mounted" in model.engine.facts()["gds_left_out"]
    lines = [line for line in capfd.readouterr().err.splitlines() if "cannot start" in line]
    assert len(lines) == 1 and "the backend gds cannot start, local goes on without it" in lines[0]
    model.close()
    (tmp_path / "not-mounted").mkdir()  # and when it is back, it is used again
    model = Model(nowhere, backend=["local", "gds"], local_config=memory)
    assert model.retrieve(TO).sum() == WHOLE
    assert model.engine.metrics()["backends_left_out"] == 0
    model.close()


def test_remote_is_left_out_and_alone_refused(tmp_path):
    model = Model(tmp_path / "cache", backend=["gds", "remote"])
    assert "not built" in model.engine.facts()["remote_left_out"]
    assert model.engine.metrics()["backends_left_out"] == 1
    model.close()
    with pytest.raises(PenstockError, match="remote is not built yet; use gds"):
        Model(tmp_path / "cache", backend="remote")


def test_when_none_can_start_all_are_named(tmp_path, memory):
    open(memory["directory"], "w").close()
    with pytest.raises(PenstockError, match="gds") as refused:
        Model(tmp_path / "no" / "such", backend=["local", "gds"], local_config=memory)
    assert memory["directory"] in str(refused.value)
    os.unlink(memory["directory"])


def test_the_log_level_of_lmcache(tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    path.write_text("cache_dir: /somewhere\nlog_level: info\n")
    monkeypatch.setenv("LMCACHE_LOG_LEVEL", "DEBUG")
    assert LMCacheEngineConfig.from_file(path).log_level == "debug"
    monkeypatch.setenv("LMCACHE_LOG_LEVEL", "LOUD")
    assert LMCacheEngineConfig.from_file(path).log_level == "info"
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "error")
    assert LMCacheEngineConfig.from_file(path).log_level == "error"


def test_what_the_configuration_refuses_it_refuses_by_name(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("cache_dir: /somewhere\nchunk_sizes: 3\n")
    with pytest.raises(PenstockError, match="chunk_sizes: unknown key"):
        LMCacheEngineConfig.from_file(path)


# -- age -----------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_003.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def aging(tmp_path):
    clock = Clock()
    model = Model(tmp_path / "cache", max_age_s=100)
    model.engine._epochs = Epochs(100, clock)
    yield model, clock
    model.close()


def test_a_copy_is_used_until_it_is_too_old_and_can_be_stored_again(aging):
    model, clock = aging
    expected = model.at(FROM)
    model.store(FROM)
    for _ in range(75):
        clock.now += 1
        assert model.engine.lookup(TOKENS) == WHOLE
    clock.now += 25
    assert model.engine.lookup(TOKENS) == 0
    assert model.retrieve(TO).sum() == 0
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected[:, :, :WHOLE])


def test_a_call_may_ask_for_younger_ones(aging):
    model, clock = aging
    model.store(FROM)
    clock.now += 30
    assert model.engine.lookup(TOKENS) == WHOLE
    assert model.engine.lookup(TOKENS, max_age=25) == 0
    assert model.retrieve(TO, max_age=25).sum() == 0
    assert model.retrieve(TO, max_age=60).sum() == WHOLE
    model.store(FROM[: 2 * CHUNK], TOKENS[: 2 * CHUNK])  # the beginning anew
    assert model.engine.lookup(TOKENS, max_age=29) == 2 * CHUNK
    assert model.engine.lookup(TOKENS) == WHOLE


def test_what_follows_a_masked_beginning_is_kept_where_the_beginning_lies(aging):
    model, clock = aging
    expected = model.at(FROM)
    begin = 3 * CHUNK
    model.store(FROM[:begin], TOKENS[:begin])
    clock.now += 30  # another epoch
    mask = torch.ones(len(TOKENS), dtype=torch.bool)
    mask[:begin] = False
    model.store(FROM, token_mask=mask)
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected[:, :, :WHOLE])
    model.store(FROM[:begin], TOKENS[:begin])  # the beginning anew: the newest one counts
    model.store(FROM, token_mask=mask)
    assert model.engine.lookup(TOKENS, max_age=25) == WHOLE
    clock.now += 70  # the older ones are too old
    assert model.engine.lookup(TOKENS) == WHOLE


def test_no_epoch_that_counts_holds_a_copy_that_is_too_old():
    clock = Clock()
    for limit in (0.1, 7.0, 100.0, 86400.0):
        epochs = Epochs(limit, clock)
        for step in range(1000):
            clock.now += limit * 0.037 * (step % 7)
            valid = epochs.valid()
            assert valid[0] == epochs.current() and len(valid) in (4, 5)
            begin = valid[-1] * limit / 4
            assert clock.now - begin <= limit * (1 + 1e-6)


def test_without_a_limit_there_is_no_age_to_ask_for(tmp_path):
    model = Model(tmp_path / "cache")
    model.store(FROM)
    with pytest.raises(ValueError, match="set max_age_s"):
        model.engine.lookup(TOKENS, max_age=5)
    model.close()
