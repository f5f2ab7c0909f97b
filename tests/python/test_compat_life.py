"""What becomes of calls that are under way when memory moves, a signal comes or the engine ends."""

from __future__ import annotations

import pytest
import torch
from compat_cases import TOKENS, WHOLE, Model, pages_of

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
