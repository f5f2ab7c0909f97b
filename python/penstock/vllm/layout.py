"""Where the pages of each KV cache group lie, derived from specs and strides, never from shapes.

A row is one block id of vLLM's block manager: what a block table holds. `Plan` needs the specs
only, so both halves of the connector make the same one; `regions_of_group` also needs the tensors
and runs in the worker. What cannot be described exactly is refused with a sentence that says why:
a wrong guess here would store bytes that mean something else after a restart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NULL_BLOCK = 0  # the id that vLLM gives to blocks outside a sliding window
NO_ROW = -1  # the core's word for a row that is neither read nor written


class UnsupportedLayout(ValueError):
    """This model's KV cache cannot be stored; the message says why."""


@dataclass(frozen=True)
class GroupPlan:
    """What a group of layers that share block ids needs, in tokens and chunks."""

    kind: str  # name of the spec's class
    block_size: int  # tokens of a row
    rows_per_chunk: int
    window: int | None  # tokens that a query sees, itself included; None: all of them
    window_chunks: int  # chunks before the end of a prefix that must be there; 0: all of them
    layer_names: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How token positions map to chunks and rows. The same in both halves."""

    chunk: int  # tokens
    hash_block_size: int  # tokens of one of the request's block hashes
    num_blocks: int
    groups: tuple[GroupPlan, ...]

    @property
    def hashes_per_chunk(self) -> int:
        return self.chunk // self.hash_block_size


@dataclass(frozen=True)
class Region:
    """Rows of one tensor, or of one of the runs that its rows fall into: K and V planes, heads that
    lie apart. The core's Region, field by field.
    """

    base: int
    rows: int
    row_stride: int
    page_bytes: int
    layer: int
    element_bytes: int = 1

    def entry(self) -> tuple[int, int, int, int, int, int]:
        return (
            *(self.base, self.rows, self.row_stride, self.page_bytes),
            *(self.layer, self.element_bytes),
        )


_SUPPORTED = ("FullAttentionSpec", "MLAAttentionSpec", "SlidingWindowSpec")
_REASONS = {
    "MambaSpec": "recurrent state (Mamba, GDN, short convolution) is not stored yet",
    "ChunkedLocalAttentionSpec": "chunked local attention is not supported yet",
    "CrossAttentionSpec": "cross attention depends on more than the tokens before it",
    "EncoderOnlyAttentionSpec": "encoder attention has no prefix to reuse",
}


def make_plan(kv_cache_config: Any, chunk_size: int, block_size: int) -> Plan:
    """The plan of a model. `block_size` is the cache configuration's, for vLLM before 0.32."""
    groups = kv_cache_config.kv_cache_groups
    if not groups:
        raise UnsupportedLayout("this model has no KV cache")
    for group in groups:
        _check_group(group)
    hash_block = getattr(kv_cache_config, "hash_block_size", None) or block_size
    chunk_step = math.lcm(hash_block, *(_spec_of(g).block_size for g in groups))
    chunk = -(-chunk_size // chunk_step) * chunk_step
    return Plan(
        chunk=chunk,
        hash_block_size=hash_block,
        num_blocks=kv_cache_config.num_blocks,
        groups=tuple(_plan_group(group, chunk) for group in groups),
    )


def regions_of_group(
    plan: Plan, group: GroupPlan, group_spec: Any, kv_caches: Mapping[str, torch.Tensor]
) -> tuple[list[Region], list[dict[str, Any]]]:
    """Regions of a group in the order of a copy, and what fingerprints their contents."""
    regions: list[Region] = []
    prints: list[dict[str, Any]] = []
    for layer, name in enumerate(group.layer_names):
        tensor = kv_caches.get(name)
        if tensor is None:
            raise UnsupportedLayout(f"layer {name} has no KV cache tensor of its own")
        found, fingerprint = _regions_of_tensor(name, tensor, plan.num_blocks, layer)
        expected = _page_bytes(group_spec.kv_cache_spec, name)
        actual = sum(region.page_bytes for region in found)
        if actual != expected:
            raise UnsupportedLayout(
                f"layer {name} holds {actual} bytes a block where its spec says {expected}"
            )
        regions.extend(found)
        prints.append({"layer": name, **fingerprint})
    _check_apart(regions)
    return regions, prints


def _check_group(group: Any) -> None:
    spec = _spec_of(group)
    kind = type(spec).__name__
    if kind not in _SUPPORTED:
        reason = _REASONS.get(kind, f"KV caches of the kind {kind} are not supported yet")
        raise UnsupportedLayout(f"{reason} (layers {', '.join(group.layer_names)})")
    if any(getattr(s, "non_causal", False) for s in _layer_specs(group)):
        raise UnsupportedLayout(
            "layers whose tokens attend to later ones are not supported: their KV depends on more "
            f"than what stands before it ({group.layer_names[0]}, ...)"
        )
    for attribute, why in (
        ("is_eagle_group", "draft model layers"),
        ("host_resident", "layers kept in host memory"),
    ):
        if getattr(group, attribute, False):
            raise UnsupportedLayout(f"{why} are not supported yet ({group.layer_names[0]}, ...)")
    if not getattr(group, "enable_kv_transfer", True):
        raise UnsupportedLayout(f"vLLM keeps layers {group.layer_names} from being transferred")


def _spec_of(group: Any) -> Any:
    """The spec that stands for a group; those of one group differ in page size at most."""
    specs = _layer_specs(group)
    kinds = {(type(s).__name__, s.block_size, getattr(s, "sliding_window", None)) for s in specs}
    if len(kinds) > 1:
        raise UnsupportedLayout(f"one group holds layers of several kinds: {sorted(kinds)}")
    return specs[0]


def _layer_specs(group: Any) -> list[Any]:
    """One for each layer, or one for all of them."""
    inner = getattr(group.kv_cache_spec, "kv_cache_specs", None)
    return [group.kv_cache_spec] if inner is None else list(inner.values())


def _plan_group(group: Any, chunk: int) -> GroupPlan:
    spec = _spec_of(group)
    kind = type(spec).__name__
    # A full-attention spec may carry a window too: vLLM keeps all of its blocks.
    window = spec.sliding_window if kind == "SlidingWindowSpec" else None
    return GroupPlan(
        kind=kind,
        block_size=spec.block_size,
        rows_per_chunk=chunk // spec.block_size,
        window=window,
        # The next token sees window - 1 tokens before it.
        window_chunks=max(1, -(-(window - 1) // chunk)) if window is not None else 0,
        layer_names=tuple(group.layer_names),
    )


def _page_bytes(spec: Any, layer_name: str) -> int:
    inner = getattr(spec, "kv_cache_specs", None)
    spec = inner[layer_name] if inner is not None else spec
    # Without padding, which only makes pages of several groups alike; with the scales that some
    # quantizations keep in the page (before 0.29 `real_page_size_bytes` leaves them out).
    for attribute in ("unpadded_page_size_bytes", "real_page_size_bytes"):
        if hasattr(spec, attribute):
            return getattr(spec, attribute)
    return spec.page_size_bytes


def _regions_of_tensor(
    name: str, tensor: torch.Tensor, num_blocks: int, layer: int
) -> tuple[list[Region], dict[str, Any]]:
    if not hasattr(tensor, "data_ptr"):
        raise UnsupportedLayout(f"layer {name} keeps its KV cache in several tensors")
    item = tensor.element_size()
    shape, strides = tuple(tensor.shape), tuple(stride * item for stride in tensor.stride())
    block_dim = _block_dim(name, shape, num_blocks)
    # Kernel blocks may be smaller than the manager's: `split` of them, side by side, make a row.
    split = shape[block_dim] // num_blocks
    inner = [(strides[i], shape[i]) for i in range(len(shape)) if i != block_dim]
    page, apart = _dense_runs([*inner, (strides[block_dim], split)], item)
    row_stride = strides[block_dim] * split
    regions = [
        Region(tensor.data_ptr() + offset, num_blocks, row_stride, page, layer, item)
        for offset in _offsets(apart)
    ]
    # Neither the number of blocks nor the place of a run says anything about its contents.
    order = {dim: f"apart {place}" for place, dim in enumerate(apart)}
    fingerprint = {
        "dtype": str(tensor.dtype),
        "page": page,
        "split": split,
        "inner": [[size, order.get((stride, size), stride)] for stride, size in inner],
    }
    return regions, fingerprint


def _block_dim(name: str, shape: Sequence[int], num_blocks: int) -> int:
    planes_first = len(shape) == 5 and shape[0] == 2  # (2, B, N, H, D): K and V apart
    block_dim = 1 if planes_first else 0
    if len(shape) < 2 or shape[block_dim] % num_blocks != 0 or shape[block_dim] == 0:
        raise UnsupportedLayout(
            f"layer {name} has the shape {list(shape)}, in which {num_blocks} blocks are not found"
        )
    return block_dim


def _dense_runs(dims: Iterable[tuple[int, int]], item: int) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of the contiguous runs that a row consists of, and the (stride, count) of what lies
    apart, outermost first: nothing for most layouts, the two planes or the heads for others.
    """
    run = item
    apart: list[tuple[int, int]] = []
    for stride, size in sorted(dim for dim in dims if dim[1] > 1):
        if not apart and stride == run:
            run *= size
        else:
            apart.append((stride, size))
    return run, apart[::-1]


def _offsets(apart: Sequence[tuple[int, int]]) -> Iterable[int]:
    """Where the runs of row 0 begin, in the order in which a copy holds them."""
    steps = ([stride * i for i in range(size)] for stride, size in apart)
    return map(sum, itertools.product(*steps))


def _check_apart(regions: Sequence[Region]) -> None:
    """No byte may belong to two rows of one group."""
    for region in regions:
        if region.row_stride < region.page_bytes:
            raise UnsupportedLayout("rows of the KV cache overlap each other")
    for i, one in enumerate(regions):
        for other in regions[i + 1 :]:
            if _overlap(one, other):
                raise UnsupportedLayout(
                    f"layers {one.layer} and {other.layer} of one group share memory"
                )


def _overlap(one: Region, other: Region) -> bool:
    first, second = sorted((one, other), key=lambda region: region.base)
    first_end = first.base + (first.rows - 1) * first.row_stride + first.page_bytes
    if first_end <= second.base:
        return False
    if first.row_stride != second.row_stride:
        return True  # interleaved with different strides: nobody does that on purpose
    distance = (second.base - first.base) % first.row_stride
    return distance < first.page_bytes or distance + second.page_bytes > first.row_stride
