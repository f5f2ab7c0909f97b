"""The layerwise generators over KV in GPU memory: the stream waits, the caller does not."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

from layerwise_cases import LAYERS, LOADED, Model  # noqa: E402
from penstock.layerwise import LoadFailed  # noqa: E402


def test_what_is_queued_after_a_layer_sees_its_bytes(tmp_path):
    model = Model(tmp_path, "cuda:0")
    saved = model.save()
    for _ in range(20):
        model.kv.zero_()
        copies = []
        steps = model.transfers.retrieve_layer(
            model.chunks(LOADED), layers=LAYERS, stream=model.stream
        )
        for layer in steps:
            copies.append(model.kv[layer, LOADED])  # on the stream, long before it has run
        for layer, copy in enumerate(copies):
            assert torch.equal(copy, saved[layer])


def test_the_caller_does_not_wait(tmp_path):
    """Reads are stuck until the deadline; the loop is through at once, the stream is not."""
    model = Model(tmp_path, "cuda:0")
    model.save()
    model.engine.close()
    model = Model(tmp_path, "cuda:0", fault="read:1+:stuck")
    steps = model.transfers.retrieve_layer(
        model.chunks(LOADED), layers=LAYERS, stream=model.stream, deadline_s=1.0
    )
    begin = time.monotonic()
    assert [next(steps) for _ in range(LAYERS)] == list(range(LAYERS))
    assert time.monotonic() - begin < 0.5
    with pytest.raises(LoadFailed):
        next(steps)
    torch.cuda.synchronize()  # the stream goes on, although the load failed


def test_a_load_that_its_own_waiters_hold_up_ends_at_its_deadline(tmp_path):
    """CUDA lets the load's copies wait behind one that was queued after the wait. If it does, the
    stream is let go at the deadline; if not, all is well."""
    model = Model(tmp_path, "cuda:0")
    saved = model.save()
    host, there = torch.ones(1 << 20).pin_memory(), torch.empty(1 << 20, device="cuda:0")
    steps = model.transfers.retrieve_layer(
        model.chunks(LOADED), layers=LAYERS, stream=model.stream, deadline_s=2.0
    )
    with suppress(LoadFailed):
        for _ in steps:
            there.copy_(host, non_blocking=True)
    torch.cuda.synchronize()
    again = model.transfers.retrieve_layer(model.chunks(LOADED), layers=LAYERS)
    assert len(list(again)) == LAYERS
    for layer in range(LAYERS):
        assert torch.equal(model.kv[layer, LOADED], saved[layer])
