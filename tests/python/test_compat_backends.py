"""Backends of a user behind the store: what they keep comes back proved, and whatever they do wrong
is a miss.
"""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType

import pytest
import torch
from compat_cases import CHUNK, TOKENS, WHOLE, Model, pages_of
from penstock.compat.lmcache import CacheBackend, backends

FROM, TO = pages_of(0), pages_of(1)
CHUNKS = WHOLE // CHUNK


class Shelf(CacheBackend):
    """Keeps copies in a dictionary that outlives the engine."""

    kept: dict[tuple[str, tuple[int, ...]], torch.Tensor]

    def retrieve(self, req_id, tokens):
        return self.kept.get((req_id, tuple(tokens)))

    def store(self, req_id, tokens, kv_data):
        assert kv_data.shape == (len(tokens), self.hidden_dim) and kv_data.dtype == self.dtype
        self.kept[req_id, tuple(tokens)] = kv_data.clone()

    def get_stats(self):
        return {"kept": len(self.kept)}


@pytest.fixture
def shelf(monkeypatch):
    """The class, importable as a_module:Mine."""
    module = ModuleType("a_module")
    module.Mine = type("Mine", (Shelf,), {"kept": {}})
    monkeypatch.setitem(sys.modules, "a_module", module)
    return module.Mine


@pytest.fixture
def make(tmp_path):
    models = []

    def build(place="cache", backend=("gds", "a_module:Mine"), **more):
        model = Model(tmp_path / place, backend=list(backend), **more)
        models.append(model)
        return model

    yield build
    for model in models:
        model.close()


def warm(make) -> torch.Tensor:
    """Stores a prompt until the backend has all of it; its store is gone afterwards."""
    model = make("first")
    expected = model.at(FROM)
    model.store(FROM)
    model.close()  # waits for the backend
    assert model.engine.metrics()["backend_Mine_stored"] == CHUNKS
    return expected[:, :, :WHOLE]


def count(model, what: str) -> float:
    return model.engine.metrics().get(f"backend_Mine_{what}", 0)


def test_copies_come_back_from_the_backend_into_a_new_store(make, shelf):
    expected = warm(make)
    assert len(shelf.kept) == CHUNKS
    model = make("second")
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected)
    assert count(model, "hits") == CHUNKS
    assert model.engine.backend_stats() == {"a_module:Mine": {"kept": CHUNKS}}
    shelf.kept.clear()
    assert model.retrieve(TO).sum() == WHOLE  # the store has them now
    assert count(model, "hits") == CHUNKS


def test_lookup_counts_what_the_backend_has(make, shelf):
    warm(make)
    del shelf.kept[list(shelf.kept)[3]]
    model = make("second")
    model.engine.post_init(model.kv)
    assert model.engine.lookup(TOKENS) == 3 * CHUNK
    assert count(model, "misses") == 1


def test_contains_spares_a_retrieval(make, shelf):
    warm(make)
    shelf.contains = lambda self, req_id, tokens: False
    shelf.retrieve = None  # would raise
    assert make("second").retrieve(TO).sum() == 0


def flipped(kv):
    kv = kv.clone()
    kv.view(torch.uint8)[10, 3] ^= 1
    return kv


def proof_changed(kv):
    kv = kv.clone()
    kv.view(torch.uint8)[5, -1] ^= 1
    return kv


WRONG = {
    "a flipped bit": (flipped, "wrong_bytes"),
    "a changed proof": (proof_changed, "wrong_bytes"),
    "zeros": (torch.zeros_like, "wrong_bytes"),
    "rows that are swapped": (lambda kv: kv.flip(0), "wrong_bytes"),
    "too short": (lambda kv: kv[:-1], "wrong_size"),
    "too wide": (lambda kv: torch.cat([kv, kv], 1), "wrong_size"),
    "another type": (lambda kv: kv.float(), "wrong_size"),
    "no tensor": (lambda kv: b"bytes", "wrong_size"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_a_miss(make, shelf, wrong):
    damage, counted = WRONG[wrong]
    expected = warm(make)
    third = list(shelf.kept)[2]
    shelf.kept[third] = damage(shelf.kept[third])
    model = make("second")
    assert model.retrieve(TO).sum() == 2 * CHUNK
    assert torch.equal(model.at(TO[: 2 * CHUNK]), expected[:, :, : 2 * CHUNK])
    assert count(model, counted) == 1
    assert model.engine.metrics()["copies"] <= 2


def test_copies_of_other_chunks_are_a_miss(make, shelf):
    warm(make)
    first, second = list(shelf.kept)[:2]
    shelf.kept[first], shelf.kept[second] = shelf.kept[second], shelf.kept[first]
    model = make("second")
    assert model.retrieve(TO).sum() == 0
    assert count(model, "wrong_bytes") == 1


def test_copies_of_another_model_are_a_miss(make, shelf):
    warm(make)
    shelf.retrieve = lambda self, req_id, tokens: next(iter(self.kept.values()))
    model = make("second", name="a-fine-tune")
    assert model.retrieve(TO).sum() == 0
    assert count(model, "wrong_bytes") == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_whatever_it_raises_is_a_miss(make, shelf, error):
    def fail(*_):
        raise error("on purpose")

    shelf.retrieve = fail
    model = make()
    assert model.retrieve(TO).sum() == 0
    shelf.store = fail
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE  # the store works on
    model.close()
    assert count(model, "errors") == 1 + CHUNKS


def test_a_backend_that_hangs_holds_nobody(make, shelf):
    hang = threading.Event()
    shelf.retrieve = lambda self, req_id, tokens: hang.wait() and None
    model = make(load_deadline_s=2)
    expected = model.at(FROM)
    begin = time.monotonic()
    assert model.retrieve(TO).sum() == 0
    assert 1.9 < time.monotonic() - begin < 10
    assert count(model, "slow") == 1
    time.sleep(0.1)  # it is overdue now
    begin = time.monotonic()
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected[:, :, :WHOLE])
    other = [token + 1 for token in TOKENS]
    assert model.retrieve(TO, other).sum() == 0
    assert time.monotonic() - begin < 2  # and is not waited for again
    assert count(model, "slow") == 2
    hang.set()
    model.close()
    assert count(model, "stored") == CHUNKS  # what waited meanwhile


def test_stores_that_are_too_many_are_dropped(make, shelf):
    hang = threading.Event()
    keep = shelf.store
    shelf.store = lambda self, *copy: (hang.wait(), keep(self, *copy))
    model = make()
    for prompt in range(60):
        model.store(FROM, [prompt * 1000 + i for i in range(len(TOKENS))])
    dropped = count(model, "dropped")
    assert 60 * CHUNKS - 256 - 1 <= dropped <= 60 * CHUNKS - 256
    hang.set()
    model.close()
    assert count(model, "stored") == 60 * CHUNKS - dropped


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module:Mine", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("a_module:Yours", "AttributeError"),
        ("builtins:dict", "Error"),
        ("types:SimpleNamespace", "TypeError"),
    ],
)
def test_one_that_cannot_start_is_left_out(make, shelf, caplog, name, why):
    model = make(backend=["gds", name, "a_module:Mine"])
    (line,) = [r.getMessage() for r in caplog.records if "cannot start" in r.getMessage()]
    assert name in line and why in line
    assert model.engine.metrics()["backends_left_out"] == 1
    assert why in model.engine.facts()[f"{name}_left_out"]
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    model.close()
    assert len(shelf.kept) == CHUNKS


def test_one_that_never_starts_is_left_out(make, shelf, monkeypatch):
    hang = threading.Event()
    monkeypatch.setattr(backends, "START_PATIENCE", 0.3)
    monkeypatch.setattr(shelf, "__init__", lambda self, config: hang.wait() and None)
    model = make()
    assert "it has not started after 0.3 s" in model.engine.facts()["a_module:Mine_left_out"]
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    hang.set()


def test_the_second_backend_is_asked_for_what_the_first_one_lacks(make, shelf):
    expected = warm(make)
    other = sys.modules["a_module"].Other = type("Other", (Shelf,), {"kept": {}})
    moved = list(shelf.kept)[1::2]
    for name in moved:
        other.kept[name] = shelf.kept.pop(name)
    model = make("second", backend=["gds", "a_module:Mine", "a_module:Other"])
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected)
    assert model.engine.metrics()["backend_Other_hits"] == len(moved)


def test_two_classes_of_one_name_have_figures_of_their_own(make, shelf, monkeypatch):
    other = ModuleType("b_module")
    other.Mine = type("Mine", (Shelf,), {"kept": {}})
    monkeypatch.setitem(sys.modules, "b_module", other)
    warm(make)
    names = list(shelf.kept)
    other.Mine.kept.update((name, shelf.kept.pop(name)) for name in names[3:])
    model = make("second", backend=["gds", "a_module:Mine", "b_module:Mine"])
    assert model.retrieve(TO).sum() == WHOLE
    assert count(model, "hits") == 3 and count(model, "misses") == 2
    assert model.engine.metrics()["backend_Mine_2_hits"] == 2
