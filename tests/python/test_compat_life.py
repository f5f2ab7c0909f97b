"""What becomes of calls that are under way when memory moves, a signal comes or the engine ends."""

from __future__ import annotations

import signal

import pytest
import torch
from compat_cases import TOKENS, WHOLE, Model, pages_of
from penstock import PenstockError
from penstock.layerwise import Layerwise

FROM, TO = pages_of(0), pages_of(1)


@pytest.fixture
def model(tmp_path):
    model = Model(tmp_path / "cache")
    yield model
    model.close()


def another(kv: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(layer) for name, layer in kv.items()}


def test_a_load_goes_to_the_pages_that_it_was_called_with_or_nowhere(model):
    model.store(FROM)
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    other = another(model.kv)
    model.engine.post_init(other)
    with pytest.raises(ValueError, match="other KV memory was registered between"):
        next(steps)
    assert not any(layer.any() for layer in other.values())
    assert model.retrieve(TO).sum() == WHOLE


def test_pages_of_other_memory_are_not_saved(model, caplog):
    steps = model.engine.store_layer(TOKENS, None, model.kv, FROM)
    next(steps)
    model.engine.post_init(another(model.kv))
    list(steps)
    assert model.engine.lookup(TOKENS) == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert "nothing is saved: other KV memory was registered" in line
    model.store(FROM)
    assert model.engine.lookup(TOKENS) == WHOLE


class Interrupted(Exception):
    pass


@pytest.fixture
def alarm(monkeypatch):
    """A signal comes while a job is waited for; its handler raises Interrupted."""
    wait = Layerwise._wait

    def interrupted(*arguments):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return wait(*arguments)

    def handler(*_):
        monkeypatch.setattr(Layerwise, "_wait", wait)
        raise Interrupted

    monkeypatch.setattr(Layerwise, "_wait", interrupted)
    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("kind", "fault"), [("load", "read:1+:stuck"), ("save", "write:1+:stuck")])
def test_a_signal_that_raises_ends_the_job_before_its_pages_are_the_callers(
    tmp_path, monkeypatch, request, kind, fault
):
    model = Model(tmp_path / "cache")
    model.store(FROM)
    model.close()
    monkeypatch.setenv("PENSTOCK_TEST_FAULT", fault)
    model = Model(tmp_path / "cache")
    model.engine.post_init(model.kv)
    request.getfixturevalue("alarm")
    with pytest.raises(Interrupted):
        if kind == "load":
            model.retrieve(TO)
        else:
            model.store(FROM, [7, *TOKENS[1:]])
    assert model.engine.metrics()[f"{kind}_seconds_le_inf"] == 1  # jobs that are over
    model.close()


def test_a_closed_engine_says_so(model):
    engine = model.engine
    model.store(FROM)
    saving = engine.store_layer(TOKENS, None, model.kv, FROM)
    next(saving)
    loading = engine.retrieve_layer(TOKENS, None, model.kv, TO)
    model.close()
    for call in (
        lambda: engine.lookup(TOKENS),
        lambda: engine.post_init(another(model.kv)),
        lambda: model.store(FROM),
        lambda: model.retrieve(TO),
        lambda: engine.store(TOKENS, slot_mapping=FROM),
        lambda: engine.retrieve(TOKENS, slot_mapping=TO),
        lambda: list(saving),
        lambda: next(loading),
    ):
        with pytest.raises(PenstockError, match="the engine is closed") as refused:
            call()
        assert refused.value.status == "closed"
    engine.close()  # as often as one likes
    assert engine.metrics()["save_jobs"] == 1


class AskedWhileItCloses:
    """An engine of the core, and what another thread would see then."""

    def __init__(self, engine, ask):
        self._engine, self._ask = engine, ask

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def close(self):
        self._ask()
        self._engine.close()
        self._ask()


def test_figures_are_the_same_while_memory_is_registered_anew(model):
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    before = model.engine.metrics()
    seen = []
    model.engine._engine = AskedWhileItCloses(
        model.engine._engine, lambda: seen.append(model.engine.metrics())
    )
    model.engine.post_init(another(model.kv))
    for figures in [*seen, model.engine.metrics()]:
        for name in ("load_jobs", "loaded_bytes", "load_seconds_le_inf", "hit_chunks"):
            assert figures[name] == before[name] > 0
    assert len(seen) == 2
