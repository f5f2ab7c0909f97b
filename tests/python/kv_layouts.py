"""KV memory as vLLM 0.26 to 0.33 lays it out, small, on any device, for the tests of tensors.

Each layout is made of raw bytes and typed views of them. What a row is, is said a second time
here, by torch's own indexing, independent of penstock.vllm.layout.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import vllm.v1.kv_cache_interface as interface
from penstock import Config, Engine
from penstock.config import flatten
from penstock.vllm import memory
from penstock.vllm.layout import NO_ROW, make_plan

BLOCKS, LAYERS, HEADS, TOKENS, DIM = 12, 3, 2, 16, 64
ROWS = 4  # of a chunk
CHUNK = ROWS * TOKENS
CONTENT = 2 * DIM  # K and V of a head of a token

Parts = Callable[[torch.Tensor, int], list[torch.Tensor]]  # a row of a tensor, by indexing


def first(tensor: torch.Tensor, row: int) -> list[torch.Tensor]:
    return [tensor[row]]


def planes(tensor: torch.Tensor, row: int) -> list[torch.Tensor]:
    return [tensor[0, row], tensor[1, row]]


@dataclass
class Layout:
    """Bytes, the tensors that vLLM would register, and the specs beside them."""

    device: str
    specs: list[Any] = field(default_factory=list)  # by group
    names: list[list[str]] = field(default_factory=list)  # of layers, by group
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    buffers: list[torch.Tensor] = field(default_factory=list)
    parts: Parts = first

    def bytes(self, count: int) -> torch.Tensor:
        buffer = torch.randint(0, 256, (count,), dtype=torch.uint8).to(self.device)
        self.buffers.append(buffer)
        return buffer

    def zeros(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        """A buffer of its own for a tensor of this shape; random bytes, not zeros."""
        item = torch.empty(0, dtype=dtype).element_size()
        return self.bytes(torch.Size(shape).numel() * item).view(dtype).view(shape)

    def group(self, spec: Any, tensors: Sequence[torch.Tensor]) -> Layout:
        names = [f"group{len(self.specs)}.layer{i}" for i in range(len(tensors))]
        self.specs.append(spec)
        self.names.append(names)
        self.tensors |= dict(zip(names, tensors, strict=True))
        return self

    @property
    def kv_cache_config(self) -> Any:
        groups = [
            interface.KVCacheGroupSpec(names, spec)
            for names, spec in zip(self.names, self.specs, strict=True)
        ]
        return SimpleNamespace(num_blocks=BLOCKS, kv_cache_groups=groups, hash_block_size=TOKENS)

    def describe(self) -> tuple[Any, memory.Memory]:
        plan = make_plan(self.kv_cache_config, CHUNK, TOKENS)
        return plan, memory.describe(plan, self.kv_cache_config, self.tensors, {})


def full(**extra: Any) -> Any:
    settings = {"block_size": TOKENS, "num_kv_heads": HEADS, "head_size": DIM}
    return interface.FullAttentionSpec(**{**settings, "dtype": torch.bfloat16, **extra})


def mla(block_size: int, **extra: Any) -> Any:
    settings = {"block_size": block_size, "num_kv_heads": 1, "head_size": 576}
    return interface.MLAAttentionSpec(**{**settings, "dtype": torch.bfloat16, **extra})


def has_field(spec: type, name: str) -> bool:
    return name in {entry.name for entry in dataclasses.fields(spec)}


def views(layout: Layout, order: str, spec: Any = None) -> Layout:
    """One buffer for all layers in the physical order of 0.29's KVCacheLayout; [B, H, N, C] views.

    Also what 0.26 allocates a layer: LBHNC is its HND, LBNHC its NHD.
    """
    sizes = {"L": LAYERS, "B": BLOCKS, "H": HEADS, "N": TOKENS, "C": CONTENT}
    buffer = layout.zeros(*(sizes[axis] for axis in order))
    logical = buffer.permute([order.index(axis) for axis in "LBHNC"])
    return layout.group(spec or full(), list(logical))


def cross_layers(layout: Layout, order: tuple[int, ...], shape: Sequence[int], spec: Any) -> Layout:
    """Registered by register_cross_layers_kv_cache; `order` is the backend's stride order."""
    physical = layout.zeros(*(shape[i] for i in order))
    names = [f"group0.layer{i}" for i in range(shape[0])]
    kv = SimpleNamespace(kv_cache_tensors=[SimpleNamespace(shared_by=[name]) for name in names])
    tensors = memory.layers_of_one_tensor(kv, physical, order)
    return layout.group(spec, [tensors[name] for name in names])


def one_each(layout: Layout, spec: Any, *shape: int, **extra: Any) -> Layout:
    return layout.group(spec, [layout.zeros(*shape, **extra) for _ in range(LAYERS)])


def split(layout: Layout) -> Layout:
    """The attention kernel's blocks are a quarter of the manager's."""
    layout.parts = lambda tensor, row: [tensor[4 * row : 4 * row + 4]]
    return one_each(layout, full(), BLOCKS * 4, HEADS, TOKENS // 4, CONTENT)


def split_planes(layout: Layout) -> Layout:
    layout.parts = lambda t, row: [t[0, 2 * row : 2 * row + 2], t[1, 2 * row : 2 * row + 2]]
    return one_each(layout, full(), 2, BLOCKS * 2, TOKENS // 2, HEADS, DIM)


def planes_apart(layout: Layout) -> Layout:
    layout.parts = planes
    return one_each(layout, full(), 2, BLOCKS, TOKENS, HEADS, DIM)


def fp8_ds_mla(layout: Layout) -> Layout:
    if has_field(interface.MLAAttentionSpec, "state_content_bytes"):
        spec = mla(TOKENS, dtype=torch.uint8, state_content_bytes=656)
    else:
        spec = mla(TOKENS, dtype=torch.uint8, cache_dtype_str="fp8_ds_mla")
    return one_each(layout, spec, BLOCKS, TOKENS, 656, dtype=torch.uint8)


def scales_in_the_page(layout: Layout) -> Layout:
    """int8_per_token_head: a float32 scale behind the data of each head of a token, twice."""
    content = 2 * (DIM + 4)
    if has_field(interface.FullAttentionSpec, "state_content_bytes"):
        spec = full(dtype=torch.int8, state_content_bytes=content)
    else:
        spec = full(dtype=torch.int8, kv_quant_mode=interface.KVQuantMode.INT8_PER_TOKEN_HEAD)
    return one_each(layout, spec, BLOCKS, HEADS, TOKENS, content, dtype=torch.int8)


def mixed_types(layout: Layout) -> Layout:
    """--kv-cache-dtype-skip-layers: the first layer stays bfloat16, the others are fp8."""
    wide, narrow = full(), full(dtype=torch.uint8)
    shape = (BLOCKS, HEADS, TOKENS, CONTENT)
    specs = {"group0.layer0": wide, "group0.layer1": narrow}
    spec = interface.UniformTypeKVCacheSpecs(block_size=TOKENS, kv_cache_specs=specs)
    return layout.group(spec, [layout.zeros(*shape), layout.zeros(*shape, dtype=torch.uint8)])


def padded(layout: Layout) -> Layout:
    """Pages are padded so that those of several groups are alike."""
    page = HEADS * TOKENS * CONTENT * 2
    tensors = []
    for _ in range(LAYERS):
        rows = layout.bytes(BLOCKS * (page + 512)).view(BLOCKS, page + 512)[:, :page]
        tensors.append(rows.view(torch.bfloat16).view(BLOCKS, HEADS, TOKENS, CONTENT))
    return layout.group(full(page_size_padded=page + 512), tensors)


def hybrid(layout: Layout) -> Layout:
    """Full attention and a sliding window, whose layers are the same bytes; ids are apart."""
    window = interface.SlidingWindowSpec(
        block_size=TOKENS,
        num_kv_heads=HEADS,
        head_size=DIM,
        dtype=torch.bfloat16,
        sliding_window=TOKENS + 1,
    )
    pools = [layout.zeros(BLOCKS, HEADS, TOKENS, CONTENT) for _ in range(LAYERS)]
    return layout.group(full(), pools).group(window, pools)


def packed_slab(layout: Layout) -> Layout:
    """Block after block, each with the pages of all groups (0.26: KVCacheTensor.block_stride)."""
    page = HEADS * TOKENS * CONTENT
    slab = layout.zeros(BLOCKS, 2 * LAYERS, page)
    shape = (BLOCKS, HEADS, TOKENS, CONTENT)
    strides = (2 * LAYERS * page, TOKENS * CONTENT, CONTENT, 1)
    tensors = [slab.as_strided(shape, strides, i * page) for i in range(2 * LAYERS)]
    return layout.group(full(), tensors[:LAYERS]).group(full(), tensors[LAYERS:])


_UNPACKED = (LAYERS, BLOCKS, HEADS, TOKENS, CONTENT)
_LATENT = (LAYERS, BLOCKS, TOKENS, 576)
LAYOUTS: dict[str, Callable[[Layout], Layout]] = {
    "HND, a tensor a layer": lambda x: one_each(x, full(), BLOCKS, HEADS, TOKENS, CONTENT),
    "K and V planes apart": planes_apart,
    "K and V planes in a block": lambda x: one_each(x, full(), BLOCKS, 2, TOKENS, HEADS, DIM),
    "kernel blocks": split,
    "kernel blocks, planes apart": split_planes,
    "LBHNC": lambda x: views(x, "LBHNC"),
    "LBNHC": lambda x: views(x, "LBNHC"),
    "LHBNC": lambda x: views(x, "LHBNC"),
    "BLHNC": lambda x: views(x, "BLHNC"),
    "BLNHC": lambda x: views(x, "BLNHC"),
    "BHLNC": lambda x: views(x, "BHLNC"),
    "cross-layer NHD": lambda x: cross_layers(x, (1, 0, 3, 2, 4), _UNPACKED, full()),
    "cross-layer HND": lambda x: cross_layers(x, (1, 2, 0, 3, 4), _UNPACKED, full()),
    "cross-layer MLA": lambda x: cross_layers(x, (1, 0, 2, 3), _LATENT, mla(TOKENS)),
    "MLA": lambda x: one_each(x, mla(TOKENS), BLOCKS, TOKENS, 576),
    "MLA, four dimensions": lambda x: one_each(x, mla(TOKENS), BLOCKS, 1, TOKENS, 576),
    "MLA, fp8_ds_mla": fp8_ds_mla,
    "fp8 as uint8": lambda x: one_each(
        x, full(dtype=torch.uint8), BLOCKS, HEADS, TOKENS, CONTENT, dtype=torch.uint8
    ),
    "fp8 as itself": lambda x: one_each(
        x,
        full(dtype=torch.float8_e4m3fn),
        BLOCKS,
        HEADS,
        TOKENS,
        CONTENT,
        dtype=torch.float8_e4m3fn,
    ),
    "int8 with scales in the page": scales_in_the_page,
    "layers of two types": mixed_types,
    "padded pages": padded,
    "hybrid over the same memory": hybrid,
    "packed slab": packed_slab,
}


def make(name: str, device: str) -> Layout:
    torch.manual_seed(len(name))
    return LAYOUTS[name](Layout(device))


def addresses(layout: Layout, name: str, row: int) -> list[int]:
    """Address of every byte of a layer's row, by torch's indexing."""
    tensor = layout.tensors[name]
    item = tensor.element_size()
    numbers = torch.arange(tensor.untyped_storage().nbytes() // item)
    index = numbers.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    base = tensor.untyped_storage().data_ptr()
    places = torch.cat([part.flatten() for part in layout.parts(index, row)]) * item + base
    return sorted((places[:, None] + torch.arange(item)).flatten().tolist())


class Store:
    """A real engine over the memory of a layout, for one chunk of every group."""

    def __init__(self, layout: Layout, directory: str) -> None:
        plan, self.described = layout.describe()
        self.groups = list(range(len(plan.groups)))
        settings = {"cache_dir": directory, "chunk_size": CHUNK}
        config = Config.from_entries(
            flatten({**settings, "max_cache_size_gb": 1, "min_free_gb": 0})
        )
        self.engine = Engine.open(config, self.described.layouts, self.described.device)
        self.namespace = self.engine.open_namespace(b"n" * 32, "{}")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()

    def submit(self, kind: str, rows: list[list[int]]) -> int:
        """`rows`: those of the chunk, by group."""
        count = len(self.groups)
        job = self.engine.submit(
            kind,
            self.namespace,
            0,
            b"k" * 32 * count,
            bytes(32) * count,
            self.groups,
            [row for group in rows for row in group],
            stream=self.described.stream(),
        )
        assert job is not None
        return job

    def finish(self, job: int) -> None:
        assert self.engine.wait(10)
        (result,) = self.engine.poll()
        assert (result.id, result.status) == (job, "ok"), result.chunk_status

    def move(self, kind: str, rows: list[list[int]]) -> None:
        self.finish(self.submit(kind, rows))


def some_rows(layout: Layout) -> tuple[list[list[int]], list[list[int]]]:
    """Rows to save and rows to load to, by group: groups apart, one row of each left out."""
    groups = range(len(layout.specs))
    return (
        [[7 - g, NO_ROW, 5 - 3 * g, 0 + g] for g in groups],
        [[8 + g, NO_ROW, 10 + g, 3 - g] for g in groups],
    )


def saved_and_loaded(layout: Layout, directory: str) -> None:
    """Saves a chunk of every group and loads it to other rows, after which every byte of the
    memory is what indexing says, those of no row included.
    """
    source, target = some_rows(layout)
    with Store(layout, directory) as store:
        store.move("save", source)
        expected = _moved(layout, source, target)
        store.move("load", target)
    for buffer, bytes_expected in zip(layout.buffers, expected, strict=True):
        assert torch.equal(buffer, bytes_expected)


def saved_here_loaded_there(one: Layout, other: Layout, directory: str) -> None:
    """What one layout saves, another of the same fingerprint reads as the same values."""
    source, target = some_rows(one)
    with Store(one, directory) as store:
        store.move("save", source)
    with Store(other, directory) as store:
        store.move("load", target)
    for names, here, there in zip(one.names, source, target, strict=True):
        for name, (old, new) in (
            (n, pair) for n in names for pair in zip(here, there, strict=True)
        ):
            if old != NO_ROW:
                saved, loaded = (
                    torch.cat([part.flatten() for part in layout.parts(layout.tensors[name], row)])
                    for layout, row in ((one, old), (other, new))
                )
                assert torch.equal(saved.view(torch.uint8), loaded.view(torch.uint8))


def _moved(layout: Layout, source: list[list[int]], target: list[list[int]]) -> list[torch.Tensor]:
    """What the buffers hold when rows were copied by torch; the buffers are left as they are."""
    before = [buffer.clone() for buffer in layout.buffers]
    for names, here, there in zip(layout.names, source, target, strict=True):
        for name, (old, new) in (
            (n, pair) for n in names for pair in zip(here, there, strict=True)
        ):
            if old != NO_ROW:
                tensor = layout.tensors[name]
                parts = zip(layout.parts(tensor, new), layout.parts(tensor, old), strict=True)
                for destination, origin in parts:
                    destination.copy_(origin.clone())
    expected = [buffer.clone() for buffer in layout.buffers]
    for buffer, old_bytes in zip(layout.buffers, before, strict=True):
        buffer.copy_(old_bytes)
    return expected
