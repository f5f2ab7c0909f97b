"""VLLMPagedMemGPUConnectorV2: how a chunk's tokens lie in the pages of an engine's KV memory.

Holds no memory and moves no bytes: the core does, with what is described here.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from penstock.spaces import canonical
from penstock.vllm import memory
from penstock.vllm.layout import GroupPlan, Plan, UnsupportedLayout

logger = logging.getLogger("penstock")

KVCaches = Mapping[str, torch.Tensor] | Sequence[torch.Tensor]


class VLLMPagedMemGPUConnectorV2:
    """Geometry of paged KV memory. One tensor a layer, of one of these shapes:

    (2, pages, tokens, heads, size), (pages, 2, tokens, heads, size), (pages, tokens, heads, 2
    size), heads and tokens in either order; with use_mla (pages, tokens, size). Any strides.
    """

    def __init__(
        self,
        hidden_dim_size: int,
        num_layer: int,
        use_gpu: bool = False,
        *,
        chunk_size: int,
        dtype: torch.dtype,
        device: torch.device | str,
        use_mla: bool = False,
        heads_first: bool | None = None,
    ) -> None:
        """`hidden_dim_size`: heads times head size of one rank. `use_gpu` changes nothing: the core
        has its own buffers. `heads_first`: whether heads come before tokens, where a page has as
        many of both; otherwise their sizes tell.
        """
        self.hidden_dim_size = hidden_dim_size
        self.num_layer = num_layer
        self.use_gpu = use_gpu
        self.chunk_size = chunk_size
        self.dtype = dtype
        self.device = torch.device(device)
        self.use_mla = use_mla
        self.heads_first = heads_first

    def describe(self, kvcaches: KVCaches, heads: int) -> Pages:
        """ValueError: these tensors are not what this connector was made for."""
        tensors = list(kvcaches.values()) if isinstance(kvcaches, Mapping) else list(kvcaches)
        if len(tensors) != self.num_layer:
            raise ValueError(f"kvcaches: {len(tensors)} tensors for {self.num_layer} layers")
        if len({(t.shape, t.dtype) for t in tensors}) != 1:
            raise ValueError("kvcaches: the layers differ in shape or type")
        first = tensors[0]
        if first.dtype != self.dtype:
            raise ValueError(f"kvcaches: {first.dtype}, the connector was made for {self.dtype}")
        if any(t.device.type != self.device.type for t in tensors):
            raise ValueError(f"kvcaches: not on {self.device}, which the connector was made for")
        pages, tokens = self._shape(tuple(first.shape), heads)
        if self.chunk_size % tokens != 0:
            raise ValueError(
                f"chunk_size: {self.chunk_size} tokens are no whole number of pages of {tokens}"
            )
        names = tuple(str(layer) for layer in range(len(tensors)))
        group = GroupPlan("paged", tokens, self.chunk_size // tokens, None, 0, names)
        plan = Plan(self.chunk_size, tokens, pages, (group,))
        planes = 1 if self.use_mla else 2
        page_bytes = planes * tokens * self.hidden_dim_size * self.dtype.itemsize
        spec = SimpleNamespace(kv_cache_spec=SimpleNamespace(page_size_bytes=page_bytes))
        groups = SimpleNamespace(kv_cache_groups=[spec])
        described = memory.describe(plan, groups, dict(zip(names, tensors, strict=True)), {})
        if tokens == heads > 1 and not self.use_mla:
            described = self._told_apart(described, tokens)
        return Pages(described, pages, tokens)

    def _told_apart(self, described: memory.Memory, size: int) -> memory.Memory:
        """With as many heads as tokens both orders look alike, and must not share copies."""
        if self.heads_first is None:
            logger.warning(
                "penstock: pages of %d tokens and %d heads do not show which come first, and are "
                "taken as tokens first; say heads_first=True or False to the connector",
                size,
                size,
            )
        if not self.heads_first:
            return described
        layout = {**json.loads(described.fingerprint), "heads_first": True}
        return dataclasses.replace(described, fingerprint=canonical(layout))

    def _shape(self, shape: tuple[int, ...], heads: int) -> tuple[int, int]:
        """Pages, and tokens of a page."""
        size = self.hidden_dim_size // heads
        if self.use_mla:
            if len(shape) == 3 and shape[2] == self.hidden_dim_size:
                return shape[0], shape[1]
        elif len(shape) == 5 and shape[4] == size and 2 in shape[:2]:
            if shape[:2] == (2, 2):
                raise UnsupportedLayout(
                    "kvcaches: of two pages it cannot be told whether K and V come first"
                )
            pages = shape[1] if shape[0] == 2 else shape[0]
            return pages, _tokens(shape[2:4], heads)
        elif len(shape) == 4 and shape[3] == 2 * size:
            return shape[0], _tokens(shape[1:3], heads)
        raise UnsupportedLayout(
            f"kvcaches: the shape {list(shape)} is not known for {heads} heads of {size}"
        )


class Pages:
    """The pages of one engine's KV memory, in the core's words."""

    def __init__(self, described: memory.Memory, pages: int, tokens: int) -> None:
        self.memory = described
        self.count = pages
        self.tokens = tokens  # of a page

    def rows(self, slot_mapping: Any, begin: int, end: int) -> list[int]:
        """The pages of the tokens from `begin` to `end`, which are whole pages.

        ValueError: a slot is not where a page's next token lies, or lies in no page, or a page is
        named twice, though it can hold the KV of one place of a prompt only.
        """
        slots = torch.as_tensor(slot_mapping)[begin:end].to("cpu", torch.int64)
        slots = slots.view(-1, self.tokens)
        firsts = slots[:, 0]
        expected = firsts[:, None] + torch.arange(self.tokens)
        if bool((firsts % self.tokens != 0).any()) or not torch.equal(slots, expected):
            raise ValueError(
                f"slot_mapping must name whole pages of {self.tokens} tokens, each in order"
            )
        rows = firsts // self.tokens
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.count:
            raise ValueError(f"slot_mapping names slots beyond the {self.count} pages")
        if len(rows.unique()) != len(rows):
            raise ValueError("slot_mapping names a page twice")
        return rows.tolist()


def _tokens(dims: Sequence[int], heads: int) -> int:
    """Of two dimensions, heads and tokens in either order, the tokens."""
    if heads not in dims:
        raise UnsupportedLayout(f"kvcaches: {heads} heads are not found in {list(dims)}")
    return dims[0] if dims[1] == heads else dims[1]
