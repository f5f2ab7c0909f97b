"""LMCache's calls over the real core, KV in the host's memory."""

from __future__ import annotations

import pytest
import torch
from compat_cases import PAGE, PAGES, TOKENS, WHOLE, Model, pages_of

FROM, TO = pages_of(0), pages_of(3)


@pytest.fixture
def make(tmp_path):
    models = []

    def build(**more):
        models.append(Model(tmp_path / "cache", **more))
        return models[-1]

    yield build
    for model in models:
        model.close()


def assert_there(model: Model, expected: torch.Tensor, tokens: int = WHOLE) -> None:
    dim = 1 if model.use_mla else 2
    there = model.at(TO[:tokens])
    assert torch.equal(there, expected.narrow(dim, 0, tokens))


@pytest.mark.parametrize("use_mla", [False, True])
def test_what_was_stored_is_retrieved_into_other_pages_after_a_restart(make, use_mla):
    model = make(use_mla=use_mla)
    expected = model.at(FROM)
    model.store(FROM)
    assert model.engine.lookup(TOKENS) == WHOLE
    model.close()
    model = make(use_mla=use_mla)
    before = model.at(torch.arange(PAGES * PAGE))
    mask = model.retrieve(TO)
    assert mask.dtype == torch.bool and mask.tolist() == [True] * WHOLE + [False] * 7
    assert_there(model, expected)
    rest = torch.ones(PAGES * PAGE, dtype=torch.bool)
    rest[TO[:WHOLE]] = False
    others = torch.arange(PAGES * PAGE)[rest]
    dim = 1 if use_mla else 2
    assert torch.equal(model.at(others), before.index_select(dim, others))
