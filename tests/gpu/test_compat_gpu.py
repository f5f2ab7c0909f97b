"""LMCache's names and the code of the user's document over KV in GPU memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

import document_cases  # noqa: E402
from compat_cases import LAYERS, TOKENS, WHOLE, Model, pages_of  # noqa: E402

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"
FROM, TO = pages_of(0).to(DEVICE), pages_of(1).to(DEVICE)


@pytest.fixture
def model(tmp_path):
    made = Model(tmp_path / "cache", DEVICE)
    yield made
    made.close()


def test_what_was_stored_is_retrieved_into_other_pages(model):
    expected = model.at(FROM[:WHOLE])
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected)


def test_what_is_queued_after_a_layers_step_sees_its_bytes(model):
    expected = model.at(FROM[:WHOLE])
    model.store(FROM)
    for _ in range(20):
        for kv in model.kv.values():
            kv.zero_()
        steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
        next(steps)
        seen = []
        for layer in range(LAYERS):
            next(steps)
            seen.append(model.at(TO[:WHOLE])[layer])  # on the stream, long before it has run
        assert next(steps).sum() == WHOLE
        for layer in range(LAYERS):
            assert torch.equal(seen[layer], expected[layer])


def test_a_store_reads_what_the_stream_had_queued(model):
    busy = torch.randn(4096, 4096, device=DEVICE)
    for _ in range(10):
        busy = (busy @ busy) * 1e-4  # keeps the stream at work
    for kv in model.kv.values():
        kv.fill_(2)
    model.store(FROM)
    for kv in model.kv.values():
        kv.zero_()
    assert model.retrieve(TO).sum() == WHOLE
    assert bool((model.at(TO[:WHOLE]) == 2).all())


def test_kv_on_another_device_is_refused(model):
    with pytest.raises(ValueError, match="not on cuda:0"):
        model.engine.post_init({name: kv.cpu() for name, kv in model.kv.items()})


def test_the_documents_code(tmp_path, monkeypatch):
    document_cases.case_engine(tmp_path, DEVICE, monkeypatch)


def test_the_documents_backend(tmp_path, monkeypatch):
    document_cases.case_custom_backend(tmp_path, DEVICE, monkeypatch)
