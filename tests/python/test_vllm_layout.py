"""python/penstock/vllm/layout.py: regions from specs and strides, for every layout we know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import vllm.v1.kv_cache_interface as interface
from penstock.vllm.layout import (
    UnsupportedLayout,
    make_plan,
    regions_of_group,
)

HEADS, TOKENS, HEAD_DIM, BLOCKS = 2, 32, 64, 10
PAGE = HEADS * TOKENS * 2 * HEAD_DIM * 2  # bfloat16, K and V


def full(block_size: int = TOKENS, **extra: Any) -> Any:
    return interface.FullAttentionSpec(
        block_size=block_size,
        num_kv_heads=HEADS,
        head_size=HEAD_DIM,
        dtype=torch.bfloat16,
        **extra,
    )


def sliding(window: int, block_size: int = TOKENS) -> Any:
    return interface.SlidingWindowSpec(
        block_size=block_size,
        num_kv_heads=HEADS,
        head_size=HEAD_DIM,
        dtype=torch.bfloat16,
        sliding_window=window,
    )


def config(*specs: Any, layers: int = 2, **extra: Any) -> Any:
    groups = [
        interface.KVCacheGroupSpec([f"g{g}.l{i}" for i in range(layers)], spec)
        for g, spec in enumerate(specs)
    ]
    return SimpleNamespace(num_blocks=BLOCKS, kv_cache_groups=groups, hash_block_size=None, **extra)


def regions(tensors: list[Any], spec: Any = None, chunk: int = 64) -> list[Any]:
    kv = config(spec or full(), layers=len(tensors))
    plan = make_plan(kv, chunk, TOKENS)
    caches = {name: t for name, t in zip(kv.kv_cache_groups[0].layer_names, tensors, strict=True)}
    return regions_of_group(plan, plan.groups[0], kv.kv_cache_groups[0], caches)[0]


def read(region: Any, row: int) -> bytes:
    """The bytes that the core would read for a row."""
    import ctypes

    return ctypes.string_at(region.base + row * region.row_stride, region.page_bytes)


def check_rows(found: list[Any], tensor: Any, row_of: Any) -> None:
    """Every row's bytes are those of the tensor's own indexing, and no other."""
    tensor.copy_(torch.randint(-99, 99, tensor.shape).to(tensor.dtype))
    for row in range(BLOCKS):
        for region, part in zip(found, row_of(row), strict=True):
            assert sorted(read(region, row)) == sorted(
                part.contiguous().view(torch.uint8).flatten().tolist()
            )


def test_packed_heads_first():
    """0.26 and later: [B, H, N, 2D], each layer its own run of memory."""
    tensors = [torch.zeros(BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)] * 1
    (region,) = regions(tensors)
    assert (region.rows, region.row_stride, region.page_bytes) == (BLOCKS, PAGE, PAGE)
    check_rows([region], tensors[0], lambda row: [tensors[0][row]])


def test_tokens_first_inside_a_block():
    """NHD: a logical [B, H, N, C] over memory in the order B, N, H, C."""
    tensor = torch.zeros(BLOCKS, TOKENS, HEADS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    (region,) = regions([tensor.permute(0, 2, 1, 3)])
    assert region.page_bytes == region.row_stride == PAGE
    check_rows([region], tensor, lambda row: [tensor[row]])


def test_planes_apart_are_two_regions_of_a_layer():
    """ROCm, and FlashAttention until 0.22: (2, B, N, H, D)."""
    tensor = torch.zeros(2, BLOCKS, TOKENS, HEADS, HEAD_DIM, dtype=torch.bfloat16)
    found = regions([tensor])
    assert [region.layer for region in found] == [0, 0]
    assert [region.page_bytes for region in found] == [PAGE // 2, PAGE // 2]
    assert found[1].base - found[0].base == BLOCKS * PAGE // 2
    check_rows(found, tensor, lambda row: [tensor[0, row], tensor[1, row]])


def test_planes_inside_a_block_are_one_page():
    tensor = torch.zeros(BLOCKS, 2, TOKENS, HEADS, HEAD_DIM, dtype=torch.bfloat16)
    (region,) = regions([tensor])
    assert region.page_bytes == PAGE
    check_rows([region], tensor, lambda row: [tensor[row]])


def test_kernel_blocks_smaller_than_the_managers():
    split = 4
    tensor = torch.zeros(BLOCKS * split, HEADS, TOKENS // split, 2 * HEAD_DIM, dtype=torch.bfloat16)
    (region,) = regions([tensor])
    assert (region.rows, region.page_bytes) == (BLOCKS, PAGE)
    check_rows([region], tensor, lambda row: [tensor[row * split : (row + 1) * split]])


def test_kernel_blocks_with_planes_apart():
    split = 2
    tensor = torch.zeros(2, BLOCKS * split, TOKENS // split, HEADS, HEAD_DIM, dtype=torch.bfloat16)
    found = regions([tensor])
    assert [region.rows for region in found] == [BLOCKS, BLOCKS]
    rows = [slice(row * split, (row + 1) * split) for row in range(BLOCKS)]
    check_rows(found, tensor, lambda row: [tensor[0, rows[row]], tensor[1, rows[row]]])


def test_blocks_outermost_with_layers_side_by_side():
    """BLHNC: one buffer, block after block, in each the pages of all layers."""
    buffer = torch.zeros(BLOCKS, 2, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    one, two = regions([buffer[:, 0], buffer[:, 1]])
    assert one.row_stride == two.row_stride == 2 * PAGE
    assert two.base - one.base == PAGE
    check_rows([two], buffer[:, 1], lambda row: [buffer[row, 1]])


def test_mla_has_three_dimensions_or_four():
    spec = interface.MLAAttentionSpec(
        block_size=16, num_kv_heads=1, head_size=576, dtype=torch.bfloat16
    )
    for shape in ((BLOCKS, 16, 576), (BLOCKS, 1, 16, 576)):
        (region,) = regions([torch.zeros(*shape, dtype=torch.bfloat16)], spec)
        assert region.page_bytes == 16 * 576 * 2


def test_padded_rows_leave_the_padding_out():
    """vLLM pads pages so that those of several groups are alike."""
    buffer = torch.zeros(BLOCKS, PAGE + 4096, dtype=torch.int8)
    view = buffer[:, :PAGE].view(torch.bfloat16).view(BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM)
    (region,) = regions([view], full(page_size_padded=PAGE + 4096))
    assert (region.page_bytes, region.row_stride) == (PAGE, PAGE + 4096)


def test_heads_outermost_are_a_region_each():
    """LHBNC: a block is a run for each head."""
    tensor = torch.zeros(HEADS, BLOCKS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    found = regions([tensor.permute(1, 0, 2, 3)])
    assert [(region.page_bytes, region.layer) for region in found] == [(PAGE // HEADS, 0)] * HEADS
    assert found[1].base - found[0].base == BLOCKS * PAGE // HEADS
    check_rows(found, tensor, lambda row: [tensor[0, row], tensor[1, row]])


def test_refuses_rows_that_overlap():
    flat = torch.zeros(BLOCKS * PAGE, dtype=torch.bfloat16)
    shape, strides = (BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM), (PAGE // 4, TOKENS * 128, 128, 1)
    with pytest.raises(UnsupportedLayout, match="overlap"):
        regions([torch.as_strided(flat, shape, strides)])


def test_refuses_layers_of_a_group_that_share_memory():
    tensor = torch.zeros(BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    with pytest.raises(UnsupportedLayout, match="share memory"):
        regions([tensor, tensor])


def test_refuses_a_size_that_is_not_the_specs():
    tensor = torch.zeros(BLOCKS, HEADS, TOKENS, HEAD_DIM, dtype=torch.bfloat16)
    with pytest.raises(UnsupportedLayout, match="its spec says"):
        regions([tensor])


def test_refuses_a_shape_without_the_blocks():
    tensor = torch.zeros(BLOCKS + 1, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    with pytest.raises(UnsupportedLayout, match="10 blocks are not found"):
        regions([tensor])


def test_refuses_a_missing_tensor_and_several():
    kv = config(full(), layers=1)
    plan = make_plan(kv, 64, TOKENS)
    for caches in ({}, {"g0.l0": [torch.zeros(1)]}):
        with pytest.raises(UnsupportedLayout, match="tensor"):
            regions_of_group(plan, plan.groups[0], kv.kv_cache_groups[0], caches)


@pytest.mark.parametrize(
    ("chunk_size", "block_size", "chunk"),
    [(256, 32, 256), (256, 96, 288), (100, 128, 128), (1, 16, 16), (256, 16, 256)],
)
def test_a_chunk_is_rounded_up_to_whole_blocks(chunk_size: int, block_size: int, chunk: int):
    plan = make_plan(config(full(block_size)), chunk_size, block_size)
    assert (plan.chunk, plan.groups[0].rows_per_chunk) == (chunk, chunk // block_size)


def test_a_chunk_is_a_multiple_of_every_groups_block_size():
    kv = config(full(96), sliding(256, 64))
    kv.hash_block_size = 32
    plan = make_plan(kv, 256, 64)
    assert plan.chunk == 384
    assert [group.rows_per_chunk for group in plan.groups] == [4, 6]
    assert plan.hashes_per_chunk == 12


@pytest.mark.parametrize(("window", "chunks"), [(1, 1), (2, 1), (257, 1), (258, 2), (1025, 4)])
def test_the_next_token_sees_window_minus_one_tokens(window: int, chunks: int):
    plan = make_plan(config(sliding(window)), 256, TOKENS)
    assert plan.groups[0].window_chunks == chunks


def test_full_attention_with_a_window_keeps_every_block():
    plan = make_plan(config(full(sliding_window=128)), 256, TOKENS)
    assert (plan.groups[0].window, plan.groups[0].window_chunks) == (None, 0)


def test_refuses_recurrent_state_with_a_reason():
    spec = interface.MambaSpec(block_size=256, shapes=((4,),), dtypes=(torch.float32,))
    with pytest.raises(UnsupportedLayout, match="recurrent state"):
        make_plan(config(full(), spec), 256, TOKENS)


def test_refuses_a_kind_it_has_never_seen():
    class NewSpec:
        block_size = 16

    with pytest.raises(UnsupportedLayout, match="NewSpec"):
        make_plan(config(NewSpec()), 256, TOKENS)


def test_a_group_of_one_kind_with_several_page_sizes():
    specs = {"g0.l0": full(), "g0.l1": full(page_size_padded=PAGE + 512)}
    uniform = interface.UniformTypeKVCacheSpecs(block_size=TOKENS, kv_cache_specs=specs)
    assert make_plan(config(uniform), 64, TOKENS).groups[0].kind == "FullAttentionSpec"


def test_the_fingerprint_tells_orders_apart_and_forgets_the_number_of_blocks():
    def fingerprint(tensor: Any, blocks: int = BLOCKS) -> Any:
        kv = config(full(), layers=1)
        kv.num_blocks = blocks
        plan = make_plan(kv, 64, TOKENS)
        caches = {"g0.l0": tensor}
        return regions_of_group(plan, plan.groups[0], kv.kv_cache_groups[0], caches)[1]

    heads = torch.zeros(BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    tokens = torch.zeros(BLOCKS, TOKENS, HEADS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    more = torch.zeros(3 * BLOCKS, HEADS, TOKENS, 2 * HEAD_DIM, dtype=torch.bfloat16)
    assert fingerprint(heads) != fingerprint(tokens.permute(0, 2, 1, 3))
    assert fingerprint(heads) == fingerprint(more, 3 * BLOCKS)


@pytest.mark.parametrize("uniform", [False, True])
def test_refuses_layers_whose_tokens_attend_to_later_ones(uniform: bool):
    spec = full(non_causal=True)
    if uniform:
        spec = SimpleNamespace(kv_cache_specs={"g0.l0": full(), "g0.l1": spec})
    with pytest.raises(UnsupportedLayout, match="attend to later ones"):
        make_plan(config(spec), 64, TOKENS)
