"""LMCacheEngine: LMCache's calls over penstock.Engine.

Every byte goes the way of the one engine; what is here turns tokens into keys and slots into rows.
A miss, a full store or a drive that fails is never an error here: fewer tokens are retrieved. Calls
that make no sense are ValueErrors, before anything moves. One thread, but metrics() is for any.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from penstock import Engine, PenstockError
from penstock.compat.lmcache.backends import BackendChain
from penstock.compat.lmcache.config import LMCacheEngineConfig, LMCacheEngineMetadata
from penstock.compat.lmcache.namespace import describe
from penstock.compat.lmcache.pages import KVCaches, Pages, VLLMPagedMemGPUConnectorV2
from penstock.compat.lmcache.ranks import BroadcastObject, BroadcastTensor, Ranks
from penstock.compat.lmcache.request import Request, as_list
from penstock.keys import NOTHING_ELSE, TokenExtras, token_keys
from penstock.layerwise import KEY_BYTES, Chunks, Layerwise
from penstock.spaces import Epochs, Space, Spaces

logger = logging.getLogger("penstock")

_LOOKUP_WAIT_US = 1_000_000
_GROUP = 0  # paged KV of one kind
_ELSEWHERE = -1  # less than any number of chunks, so it is what the ranks agree on


@dataclass(frozen=True)
class _Job:
    """A job, and whose it is: the KV memory may be registered anew while its generator waits."""

    transfers: Layerwise
    id: int


class LMCacheEngine:
    """Built by LMCacheEngineBuilder."""

    def __init__(
        self,
        config: LMCacheEngineConfig,
        metadata: LMCacheEngineMetadata,
        gpu_connector: VLLMPagedMemGPUConnectorV2,
        broadcast_fn: BroadcastTensor | None = None,
        broadcast_object_fn: BroadcastObject | None = None,
    ) -> None:
        _check_alike(config, metadata, gpu_connector)
        self.config = config
        self.metadata = metadata
        self._connector = gpu_connector
        self._chunk: int = config.chunk_size
        self._ranks = Ranks(
            metadata.rank,
            metadata.world_size,
            gpu_connector.device,
            broadcast_fn,
            broadcast_object_fn,
        )
        # KV that is the same on all ranks is kept once.
        self._shards = 1 if metadata.use_mla else metadata.world_size
        self._shard = 0 if metadata.use_mla else metadata.rank
        self._core = config.core(metadata.copy_bytes)
        self._store = Engine.open(self._core, [])  # keeps the store open, and fails early
        self._backends = BackendChain(config, self._core, metadata, self._shard)
        self._epochs = Epochs(self._core.max_age_s)
        self._counts: Counter[str] = Counter()
        self._counted = threading.Lock()  # figures are in _engine or in _counts, never in both
        self._last_figures: dict[str, float] | None = None
        self._kvcaches: list[torch.Tensor] = []
        self._pages: Pages | None = None
        self._spaces: Spaces | None = None
        self._engine: Any = None
        self._transfers: Any = None

    # -- LMCache's calls -------------------------------------------------------------------------

    def post_init(self, kvcaches: KVCaches) -> None:
        """Registers the KV memory; store and retrieve do it too. Before it lookup finds nothing:
        how pages are laid out is a part of their copies' name.
        """
        self._check_open()
        tensors = list(kvcaches.values()) if hasattr(kvcaches, "values") else list(kvcaches)
        if _places(tensors) == _places(self._kvcaches):
            return
        pages = self._connector.describe(tensors, self.metadata.kv_shape[3])
        engine = Engine.open(self._core, pages.memory.layouts, pages.memory.device)
        self._close_engine()
        self._spaces = Spaces(
            partial(describe, self.metadata, self._chunk, pages.memory.fingerprint)
        )
        self._kvcaches, self._pages, self._engine = tensors, pages, engine
        self._transfers = Layerwise(engine)
        logger.info("penstock: %s", engine.facts())

    def lookup(
        self,
        tokens: Any,
        *,
        extras: TokenExtras = NOTHING_ELSE,
        max_age: float | None = None,
    ) -> int:
        """Leading tokens that can be retrieved, as far as this rank knows. `max_age`: seconds;
        needs max_age_s in the configuration, and is not longer.
        """
        self._check_open()
        if self._spaces is None:
            return 0
        keys = token_keys(tokens, self._chunk, extras)
        return self._find(Request(as_list(tokens), keys, 0, [], None), max_age)[0] * self._chunk

    def store(
        self,
        tokens: Any,
        token_mask: Any = None,
        kvcaches: KVCaches | None = None,
        slot_mapping: Any = None,
        *,
        extras: TokenExtras = NOTHING_ELSE,
        **more: Any,
    ) -> None:
        """Saves the whole chunks of `tokens`. When it returns, the pages may be overwritten."""
        self._save(self._request(tokens, token_mask, kvcaches, slot_mapping, extras, more))

    def store_layer(
        self,
        tokens: Any,
        token_mask: Any = None,
        kvcaches: KVCaches | None = None,
        slot_mapping: Any = None,
        *,
        extras: TokenExtras = NOTHING_ELSE,
        **more: Any,
    ) -> Generator[None, None, None]:
        """A generator: one step for each layer that is computed, and one that saves all of them. It
        saves nothing if it is closed before that.
        """
        return self._store_steps(
            self._request(tokens, token_mask, kvcaches, slot_mapping, extras, more)
        )

    def retrieve(
        self,
        tokens: Any,
        token_mask: Any = None,
        kvcaches: KVCaches | None = None,
        slot_mapping: Any = None,
        *,
        extras: TokenExtras = NOTHING_ELSE,
        max_age: float | None = None,
        **more: Any,
    ) -> torch.Tensor:
        """Loads what is there. The mask that comes back is True for the tokens whose KV is in the
        pages now, on all ranks; pages of other tokens that were asked for may hold anything.
        """
        request = self._request(tokens, token_mask, kvcaches, slot_mapping, extras, more)
        load, _ = self._start_load(request, max_age)
        return self._loaded(request, load)

    def retrieve_layer(
        self,
        tokens: Any,
        token_mask: Any = None,
        kvcaches: KVCaches | None = None,
        slot_mapping: Any = None,
        *,
        extras: TokenExtras = NOTHING_ELSE,
        max_age: float | None = None,
        **more: Any,
    ) -> Generator[torch.Tensor | None, None, None]:
        """A generator of two steps more than there are layers.

        The first step asks for all layers and yields the number of tokens that were found. Each of
        the next ends when a layer may be read, beginning with the first layer: on a GPU its stream
        waits, not the caller. The last one yields the mask that retrieve() returns; a layer that
        was read before counts only if its tokens are True there. Closing the generator ends the
        load.
        """
        return self._retrieve_steps(
            self._request(tokens, token_mask, kvcaches, slot_mapping, extras, more), max_age
        )

    def close(self) -> None:
        """Waits for what the user's backends still have to store, a few seconds at most. Calls that
        need the store raise PenstockError after it.
        """
        if self._last_figures is None:
            self._backends.close()
            self._last_figures = self.metrics()
            self._close_engine()
            self._store.close()

    # -- figures ---------------------------------------------------------------------------------

    def backend_stats(self) -> dict[str, Any]:
        """What get_stats() of each of the user's backends says."""
        return self._backends.stats()

    def metrics(self) -> dict[str, float]:
        """Engine.metrics() of the core, those of loads summed over the memory that was registered;
        what was asked for here; the user's backends. Of a closed engine: the last ones. Any thread.
        """
        with self._counted:
            if self._last_figures is not None:
                return dict(self._last_figures)
            figures = (self._engine or self._store).metrics()
            for name, value in [*self._counts.items(), *self._backends.metrics().items()]:
                figures[name] = figures.get(name, 0.0) + value
            return figures

    def facts(self) -> dict[str, str]:
        return {**(self._engine or self._store).facts(), **self._backends.facts()}

    def _check_open(self) -> None:
        if self._last_figures is not None:
            error = PenstockError("the engine is closed")
            error.status = "closed"
            raise error

    # -- loads and saves -------------------------------------------------------------------------

    def _request(
        self,
        tokens: Any,
        token_mask: Any,
        kvcaches: KVCaches | None,
        slot_mapping: Any,
        extras: TokenExtras,
        more: dict[str, Any],
    ) -> Request:
        mask = more.pop("mask", token_mask)  # LMCache's older name
        for known in ("offset", "sync"):  # of no use here
            more.pop(known, None)
        if more:
            raise TypeError(f"unknown arguments: {', '.join(more)}")
        if kvcaches is not None:
            self.post_init(kvcaches)
        if self._pages is None or slot_mapping is None:
            raise ValueError("kvcaches and slot_mapping are needed")
        return Request.of(tokens, mask, slot_mapping, extras, self._pages, self._chunk)

    def _find(self, request: Request, max_age: float | None) -> tuple[int, Space | None]:
        """How many chunks, from the first on, can be loaded, and from where."""
        best: tuple[int, Space | None] = (0, None)
        try:
            spaces = [self._space(epoch) for epoch in self._epochs.valid(max_age)]
            for space in spaces:
                end = self._lookup(space, request.keys)
                if best[1] is None or end > best[0]:
                    best = (end, space)
            if spaces and best[1] is spaces[0]:
                end = self._backends.fetch(spaces[0], request.keys, request.tokens, best[0])
                best = (end, spaces[0])
        except PenstockError as error:
            logger.warning("penstock: the store does not answer: %s", error)
        return best

    def _lookup(self, space: Space, keys: list[bytes]) -> int:
        need = [(_GROUP, self._shards, 0)]
        return self._engine.lookup(space.id, b"".join(keys), need).wait(_LOOKUP_WAIT_US) or 0

    def _space(self, epoch: int) -> Space:
        assert self._spaces is not None
        return self._spaces.space(self._engine, epoch)

    def _start_load(
        self, request: Request, max_age: float | None, layerwise: bool = False
    ) -> tuple[_Job | None, int]:
        """A load, and its tokens. None: there is nothing to load, or no room for a job.

        ValueError, on all ranks: on one of them the request's pages are not the registered ones.
        """
        self._check_open()
        end, space = _ELSEWHERE, None
        if request.pages is self._pages:
            end, space = self._find(request, max_age)
        end = self._ranks.plan(end)  # asked by every rank, or the others would wait for it
        if end == _ELSEWHERE:
            raise ValueError(
                "other KV memory was registered between a call of retrieve_layer and its first step"
            )
        self._counts["asked_chunks"] += max(0, len(request.keys) - request.first)
        if end <= request.first or space is None:
            return None, 0
        load = self._submit("load", request, end, space, layerwise)
        return load, (end - request.first) * self._chunk

    def _submit(
        self, kind: str, request: Request, end: int, space: Space, layerwise: bool = False
    ) -> _Job | None:
        pages, first = request.pages, request.first
        assert pages is not None
        parents = [bytes(KEY_BYTES), *request.keys][first:end]
        chunks = Chunks(
            space.id,
            self._shard,
            b"".join(request.keys[first:end]),
            b"".join(parents),
            [_GROUP] * (end - first),
            request.rows[: (end - first) * (self._chunk // pages.tokens)],
        )
        job = self._transfers.submit(kind, chunks, pages.memory.stream(), layerwise=layerwise)
        return None if job is None else _Job(self._transfers, job)

    def _loaded(self, request: Request, load: _Job | None) -> torch.Tensor:
        """Waits for a load, and agrees with the other ranks on what came of it."""
        good = 0
        if load is not None:
            for status in load.transfers.result(load.id).chunk_status:
                if status != "ok":
                    break
                good += 1
        good = self._ranks.loaded(good)
        self._counts["hit_chunks"] += good
        return request.mask(good, self._chunk)

    def _retrieve_steps(
        self, request: Request, max_age: float | None
    ) -> Generator[torch.Tensor | None, None, None]:
        load, tokens = self._start_load(request, max_age, layerwise=True)
        done = False
        try:
            yield torch.tensor(tokens)
            for layer in range(self._connector.num_layer):
                if load is not None:
                    load.transfers.wait_layer(load.id, layer, None)
                yield None
            done = True
            yield self._loaded(request, load)
        finally:
            if load is not None and not done:
                with suppress(PenstockError):  # closed: all its jobs are over
                    load.transfers.end(load.id)  # the pages are the caller's again

    def _store_steps(self, request: Request) -> Generator[None, None, None]:
        for _ in range(self._connector.num_layer):
            yield
        self._save(request)
        yield

    def _save(self, request: Request) -> None:
        self._check_open()
        end = len(request.keys)
        replicas = self.metadata.world_size // self._shards
        if end <= request.first:
            return
        if int.from_bytes(request.keys[0][:8], "big") % replicas != self.metadata.rank % replicas:
            return  # another rank keeps this chain
        if request.pages is not self._pages:
            logger.warning(
                "penstock: nothing is saved: other KV memory was registered between a call of "
                "store_layer and its last layer"
            )
            return
        try:
            space = self._place(request)
        except PenstockError as error:
            logger.warning("penstock: the store does not answer: %s", error)
            return
        save = self._submit("save", request, end, space)
        if save is None:
            return
        kept = request.first
        for status in save.transfers.result(save.id).chunk_status:
            if status not in ("ok", "present"):
                break
            kept += 1
        self._backends.offer(space, request.keys, request.tokens, request.first, kept)

    def _place(self, request: Request) -> Space:
        """Where a save goes: to what the mask leaves out, below which alone the rest can be kept;
        else to the current epoch.
        """
        current, *older = self._epochs.valid()
        if request.first and older:
            for epoch in (current, *older):
                space = self._space(epoch)
                if self._lookup(space, request.keys[: request.first]) == request.first:
                    return space
        return self._space(current)

    def _close_engine(self) -> None:
        with self._counted:
            engine, self._engine, self._transfers = self._engine, None, None
            if engine is None:
                return
            for name, value in engine.metrics().items():
                if name.startswith("load"):
                    self._counts[name] += value
        engine.close()


def _check_alike(
    config: LMCacheEngineConfig,
    metadata: LMCacheEngineMetadata,
    connector: VLLMPagedMemGPUConnectorV2,
) -> None:
    layers, _, chunk, heads, size = metadata.kv_shape
    for name, one, other in (
        ("layers", layers, connector.num_layer),
        ("chunk_size", chunk, connector.chunk_size),
        ("chunk_size", chunk, config.chunk_size),
        ("heads and head size", heads * size, connector.hidden_dim_size),
        ("kv_dtype", metadata.kv_dtype, connector.dtype),
        ("use_mla", metadata.use_mla, connector.use_mla),
    ):
        if one != other:
            raise ValueError(f"{name}: {one} and {other} in what this engine is built from")


def _places(tensors: list[torch.Tensor]) -> list[tuple[Any, ...]]:
    return [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors]
