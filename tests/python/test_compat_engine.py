"""LMCache's calls over the real core, KV in the host's memory."""

from __future__ import annotations

import dataclasses

import compat_cases
import pytest
import torch
from compat_cases import (
    CHUNK,
    DTYPE,
    HEADS,
    LAYERS,
    PAGE,
    PAGES,
    SIZE,
    TOKENS,
    WHOLE,
    Model,
    pages_of,
)
from penstock import PenstockError
from penstock.compat.lmcache import LMCacheEngine, LMCacheEngineBuilder, LMCacheEngineConfig
from penstock.keys import TokenExtras

FROM, TO = pages_of(0), pages_of(1)


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


def test_another_prompt_gets_its_common_prefix_only(make):
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    other = TOKENS[: 2 * CHUNK + 5] + [7] * (3 * CHUNK)
    assert model.engine.lookup(other) == 2 * CHUNK
    mask = model.retrieve(pages_of(1, len(other)), other)
    assert mask.sum() == 2 * CHUNK
    assert_there(model, expected, 2 * CHUNK)
    assert model.engine.lookup([1, *TOKENS]) == 0


def test_what_a_mask_leaves_out_is_not_touched(make):
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    before = model.at(TO)
    mask = torch.ones(len(TOKENS), dtype=torch.bool)
    mask[: 2 * CHUNK] = False
    got = model.retrieve(TO, token_mask=mask)
    assert got.tolist() == [False] * 2 * CHUNK + [True] * 3 * CHUNK + [False] * 7
    assert torch.equal(model.at(TO[: 2 * CHUNK]), before[:, :, : 2 * CHUNK])
    there = model.at(TO[2 * CHUNK : WHOLE])
    assert torch.equal(there, expected[:, :, 2 * CHUNK : WHOLE])


def test_a_store_may_begin_where_the_last_one_ended(make):
    model = make()
    expected = model.at(FROM)
    model.store(FROM[: 3 * CHUNK], TOKENS[: 3 * CHUNK])
    mask = torch.ones(len(TOKENS), dtype=torch.bool)
    mask[: 3 * CHUNK] = False
    model.store(FROM, mask=mask, offset=3 * CHUNK)  # LMCache's own words
    assert model.retrieve(TO).sum() == WHOLE
    assert_there(model, expected)


def test_when_a_store_returns_its_pages_may_be_overwritten(make):
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    for kv in model.kv.values():
        kv.fill_(3)
    assert model.retrieve(TO).sum() == WHOLE
    assert_there(model, expected)


def test_layers_come_one_after_the_other(make):
    model = make()
    steps = model.engine.store_layer(TOKENS, None, model.kv, FROM)
    for layer in model.kv.values():
        next(steps)
        layer.copy_(torch.randn(layer.shape))  # computed in its step
    next(steps)  # all are saved
    expected = model.at(FROM)
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    assert int(next(steps)) == WHOLE
    for layer in range(LAYERS):
        assert next(steps) is None
        assert torch.equal(model.at(TO[:WHOLE])[layer], expected[layer, :, :WHOLE])
    assert next(steps).sum() == WHOLE
    with pytest.raises(StopIteration):
        next(steps)


def test_lmcaches_own_order_of_steps(make):
    """Its connector takes two steps before the first layer, and one before each layer."""
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    steps = model.engine.retrieve_layer(
        TOKENS, mask=torch.ones(len(TOKENS)), kvcaches=model.kv, slot_mapping=TO, sync=True
    )
    next(steps)
    next(steps)
    for layer in range(LAYERS):
        last = next(steps)
        assert torch.equal(model.at(TO[:WHOLE])[layer], expected[layer, :, :WHOLE])
    assert last.sum() == WHOLE


def test_a_loop_that_is_left_ends_the_load(make):
    model = make()
    model.store(FROM)
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    next(steps)
    steps.close()
    before = model.at(TO)
    assert model.retrieve(FROM).sum() == WHOLE  # the engine is free for the next one
    assert torch.equal(model.at(TO), before)


def test_a_store_that_is_left_saves_nothing(make):
    model = make()
    steps = model.engine.store_layer(TOKENS, None, model.kv, FROM)
    next(steps)
    steps.close()
    assert model.engine.lookup(TOKENS) == 0


def test_damage_is_a_miss_and_what_follows_is_not_there(make, tmp_path):
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    wanted = expected[2, 1, 2 * CHUNK].numpy().tobytes()
    with (tmp_path / "cache" / "pool.data").open("r+b") as pool:
        at = pool.read().find(wanted)
        assert at > 0
        pool.seek(at)
        pool.write(bytes([wanted[0] ^ 1]))
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    *_, mask = steps
    assert mask.tolist() == [True] * 2 * CHUNK + [False] * (len(TOKENS) - 2 * CHUNK)
    assert_there(model, expected, 2 * CHUNK)
    assert model.engine.lookup(TOKENS) <= 2 * CHUNK
    assert model.engine.metrics()["load_chunks_corrupt"] == 1


def test_a_full_store_and_a_small_one_only_forget(make):
    model = make(max_cache_size_gb=0.01)
    for prompt in range(40):
        model.store(FROM, [prompt * 1000 + i for i in range(len(TOKENS))])
    mask = model.retrieve(TO, [39 * 1000 + i for i in range(len(TOKENS))])
    dim = 2
    good = int(mask.sum())
    assert torch.equal(model.at(TO[:good]), model.at(FROM).narrow(dim, 0, good))


@pytest.mark.parametrize(
    "slots",
    [
        FROM + 1,
        torch.cat([FROM[:PAGE].flip(0), FROM[PAGE:]]),
        torch.cat([FROM[: PAGE // 2], FROM[PAGE : PAGE + PAGE // 2], FROM[PAGE:]]),
        FROM + PAGE * PAGES,
        FROM - PAGE * PAGES,
        torch.cat([FROM[:PAGE], FROM[:-PAGE]]),
    ],
    ids=["shifted", "backwards", "half pages", "beyond", "negative", "twice"],
)
def test_slots_that_are_not_whole_pages_each_once_are_refused(make, slots):
    model = make()
    before = model.at(torch.arange(PAGES * PAGE))
    for call in (model.store, model.retrieve):
        with pytest.raises(ValueError, match="slot_mapping"):
            call(slots)
    with pytest.raises(ValueError, match="slot_mapping"):
        model.engine.retrieve_layer(TOKENS, None, model.kv, slots)
    assert torch.equal(model.at(torch.arange(PAGES * PAGE)), before)


def test_calls_that_make_no_sense_are_refused(make):
    model = make()
    with pytest.raises(ValueError, match="kvcaches and slot_mapping are needed"):
        model.engine.retrieve(TOKENS)
    with pytest.raises(ValueError, match="20 slots for 327 tokens"):
        model.store(FROM[:20])
    for wrong in ([False] * 5 + [True] * 322, [True] * 64 + [False] * 263):
        with pytest.raises(ValueError, match="its False ones are a prefix"):
            model.retrieve(TO, token_mask=torch.tensor(wrong))
    with pytest.raises(TypeError, match="unknown arguments: pin"):
        model.store(FROM, pin=True)


def test_salt_adapter_and_images_make_prompts_of_their_own(make):
    model = make()
    model.store(FROM)
    expected = model.at(FROM)
    for extras in (
        TokenExtras(cache_salt="tenant"),
        TokenExtras(lora="adapter@1"),
        TokenExtras(items=((0, 3, "an image"),)),
    ):
        assert model.engine.lookup(TOKENS, extras=extras) == 0
        assert model.retrieve(TO, extras=extras).sum() == 0
        model.store(FROM, extras=extras)
        assert model.retrieve(TO, extras=extras).sum() == WHOLE
        assert_there(model, expected)
    late = TokenExtras(items=((2 * CHUNK, 3, "an image"),))
    assert model.engine.lookup(TOKENS, extras=late) == 2 * CHUNK


def test_another_model_or_layout_shares_nothing(make):
    model = make()
    model.store(FROM)
    assert make(name="a-fine-tune").retrieve(TO).sum() == 0
    other = make()
    heads_first = {name: kv.transpose(0, 1).contiguous() for name, kv in other.kv.items()}
    other.engine.post_init(heads_first)  # (pages, 2, ...): the same sizes in another order
    assert other.engine.lookup(TOKENS) == 0


@pytest.mark.parametrize("heads", [HEADS, PAGE])
def test_whether_heads_come_first_can_be_said_where_sizes_do_not_tell(
    make, monkeypatch, caplog, heads
):
    monkeypatch.setattr(compat_cases, "HEADS", heads)
    unknown = heads == PAGE
    make().store(FROM)
    lines = [record.getMessage() for record in caplog.records]
    assert ["say heads_first=True or False" in line for line in lines] == [True] * unknown
    for heads_first in (False, True):
        other = make(heads_first=heads_first)
        other.engine.post_init(other.kv)
        assert other.engine.lookup(TOKENS) == (0 if unknown and heads_first else WHOLE)
    assert len(caplog.records) == len(lines)


def test_before_the_pages_are_known_nothing_is_found(make):
    model = make()
    model.store(FROM)
    other = make()
    assert other.engine.lookup(TOKENS) == 0
    other.engine.post_init(other.kv)
    assert other.engine.lookup(TOKENS) == WHOLE


def test_memory_that_moves_is_registered_anew(make):
    model = make()
    expected = model.at(FROM)
    model.store(FROM)
    jobs = model.engine.metrics()["load_jobs"]
    assert model.retrieve(TO).sum() == WHOLE
    model.kv = {name: torch.zeros_like(kv) for name, kv in model.kv.items()}
    assert model.retrieve(TO).sum() == WHOLE
    assert_there(model, expected)
    assert model.engine.metrics()["load_jobs"] == jobs + 2  # figures go on


def test_an_id_stands_for_one_engine(make, tmp_path):
    model = make()
    engine = model.engine
    get = LMCacheEngineBuilder.get_or_create
    assert get(model.id, model.config, engine.metadata, engine._connector) is engine
    assert LMCacheEngineBuilder.get(model.id) is engine
    other = dataclasses.replace(engine.metadata, model="another")
    config = LMCacheEngineConfig.from_dict({"cache_dir": str(tmp_path / "x"), "chunk_size": CHUNK})
    for arguments in ((model.config, other), (config, engine.metadata)):
        with pytest.raises(ValueError, match="built with another"):
            get(model.id, *arguments, engine._connector)
    with pytest.raises(ValueError, match="chunk_size: 64 and 256"):
        LMCacheEngine(
            LMCacheEngineConfig.from_dict({"cache_dir": str(tmp_path / "x")}),
            engine.metadata,
            engine._connector,
        )
    LMCacheEngineBuilder.destroy(model.id)
    assert LMCacheEngineBuilder.get(model.id) is None


@pytest.mark.parametrize(
    "shape",
    [
        (2, PAGES, PAGE, HEADS, SIZE),
        (PAGES, 2, PAGE, HEADS, SIZE),
        (PAGES, 2, HEADS, PAGE, SIZE),
        (PAGES, PAGE, HEADS, 2 * SIZE),
        (PAGES, HEADS, PAGE, 2 * SIZE),
    ],
    ids=str,
)
def test_every_layout_comes_back_page_by_page(make, shape):
    model = make()
    pages_first = shape[0] == PAGES
    model.kv = {name: torch.randn(shape, dtype=DTYPE) for name in model.kv}
    rows = [(int(FROM[i]) // PAGE, int(TO[i]) // PAGE) for i in range(0, WHOLE, PAGE)]
    expected = [kv.clone() for kv in model.kv.values()]
    model.store(FROM)
    assert model.retrieve(TO).sum() == WHOLE
    for kv, before in zip(model.kv.values(), expected, strict=True):
        for source, destination in rows:
            got, there = (
                (kv[destination], before[source])
                if pages_first
                else (kv[:, destination], before[:, source])
            )
            assert torch.equal(got, there)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((2, 2, PAGE, HEADS, SIZE), "whether K and V come first"),
        ((PAGES, PAGE, HEADS, SIZE), "is not known"),
        ((3, PAGES, PAGE, HEADS, SIZE), "is not known"),
        ((2, PAGES, PAGE, HEADS + 1, SIZE), "2 heads are not found"),
        ((2, PAGES, 24, HEADS, SIZE), "no whole number of pages of 24"),
    ],
)
def test_layouts_that_cannot_be_told_are_refused(make, shape, why):
    model = make()
    with pytest.raises(ValueError, match=why):
        model.engine.post_init([torch.zeros(shape, dtype=DTYPE) for _ in range(LAYERS)])


def test_kv_that_is_not_what_the_connector_was_made_for_is_refused(make):
    model = make()
    tensors = list(model.kv.values())
    for wrong, why in (
        (tensors[:-1], "3 tensors for 4 layers"),
        ([t.float() for t in tensors], "torch.float32"),
        ([*tensors[:-1], tensors[0][:, :5]], "differ in shape"),
        ([tensors[0], *tensors[:-1]], "share memory"),
    ):
        with pytest.raises(ValueError, match=why):
            model.engine.post_init(wrong)


def test_memory_may_move_while_a_generator_waits(make):
    model = make()
    model.store(FROM)
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    next(steps)
    model.engine.post_init({name: torch.zeros_like(kv) for name, kv in model.kv.items()})
    with pytest.raises(PenstockError, match="the engine is closed"):
        list(steps)
    left = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    next(left)
    model.close()
    left.close()
