"""Backends of a user: subclasses of CacheBackend, named in the configuration behind gds or local.

    backend: ["gds", "my.module:MyBackend"]

A backend keeps whole copies under names that a later process finds again. It is not a second way
for the bytes: what it gives back is proved, put into the store, and loaded from there; what it gets
was read from the store (penstock.compat.lmcache.backend_host).
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import torch

from penstock.compat.lmcache.backend_host import PROOF_BYTES, BackendHost, Copy, Stage
from penstock.compat.lmcache.config import LMCacheEngineConfig, LMCacheEngineMetadata
from penstock.spaces import Space

logger = logging.getLogger("penstock")

START_PATIENCE = 60.0  # seconds that a backend's module and constructor may take


class CacheBackend:
    """What a user's backend overrides. All calls come from one thread; whatever they raise, return
    or take too long for is a miss or a dropped copy, and counted.

    `req_id` is a name of 64 hexadecimal digits: of the chunk, of everything before it, of the model
    and of the rank; the same in every process. `tokens` are the chunk's token ids. `kv_data` is a
    tensor of (len(tokens), self.hidden_dim) of self.dtype: the copy's bytes and their proof, whose
    rows mean nothing by themselves.
    """

    def __init__(self, config: Any) -> None:
        """`config`: the engine's, with hidden_dim and dtype beside its keys."""
        self.config = config
        self.hidden_dim: int = config.hidden_dim
        self.dtype: torch.dtype = config.dtype

    def retrieve(self, req_id: str, tokens: list[int]) -> torch.Tensor | None:
        """What store() was given under this name, on any device; None: a miss."""
        raise NotImplementedError

    def store(self, req_id: str, tokens: list[int], kv_data: torch.Tensor) -> None:
        """Keeps it. `kv_data` lies in host memory, or on self.device where there is one, and is
        overwritten when this returns.
        """
        raise NotImplementedError

    def contains(self, req_id: str, tokens: list[int]) -> bool:
        """False spares the call of retrieve()."""
        return True

    def get_stats(self) -> dict[str, Any]:
        return {}


class BackendConfig:
    """The engine's configuration, and the shape of what a backend keeps."""

    def __init__(self, config: LMCacheEngineConfig, hidden_dim: int, dtype: torch.dtype) -> None:
        self._config = config
        self.hidden_dim = hidden_dim
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


class BackendChain:
    """The user's backends in the order of the configuration. One thread."""

    def __init__(
        self, config: LMCacheEngineConfig, core: Any, metadata: LMCacheEngineMetadata, shard: int
    ) -> None:
        """A backend that cannot start is left out, with one line that says why."""
        self._chunk: int = config.chunk_size
        self._shard = shard
        self._timeout: float = core.load_deadline_s
        self._left_out: dict[str, str] = {}
        self._hosts: list[BackendHost] = []
        names = [name for name in config.backends if ":" in name]
        if not names:
            return
        dtype = metadata.kv_dtype
        row = metadata.copy_bytes // self._chunk + PROOF_BYTES
        own = BackendConfig(config, row // dtype.itemsize, dtype)
        for name, short_name in zip(names, _short_names(names), strict=True):
            try:
                backend = _in_time(lambda name=name: _make(name, own))
                stage = Stage(core, metadata.copy_bytes, (self._chunk, own.hidden_dim), dtype)
            except Exception as error:  # whatever a user's module raises
                self._left_out[name] = f"{type(error).__name__}: {error}"
                logger.warning(
                    "penstock: the backend %s cannot start, the others go on without it: %s",
                    name,
                    self._left_out[name],
                )
                continue
            self._hosts.append(BackendHost(name, short_name, backend, stage, self._timeout))

    def fetch(self, space: Space, keys: list[bytes], tokens: list[int], found: int) -> int:
        """Brings chunks from `found` on into the store, as far as the backends have them in
        time.
        """
        until = time.monotonic() + self._timeout
        while self._hosts and found < len(keys) and time.monotonic() < until:
            copy = self._copy(space, keys, tokens, found)
            if not any(host.fetch(copy, until) for host in self._hosts):
                break
            found += 1
        return found

    def offer(
        self, space: Space, keys: list[bytes], tokens: list[int], first: int, end: int
    ) -> None:
        """Gives chunks that are in the store to all backends, later."""
        for host in self._hosts:
            for chunk in range(first, end):
                host.offer(self._copy(space, keys, tokens, chunk))

    def close(self) -> None:
        for host in self._hosts:
            host.close()

    def metrics(self) -> dict[str, float]:
        figures = {"backends_left_out": float(len(self._left_out))}
        for host in self._hosts:
            for name, value in host.counts().items():
                figures[f"backend_{host.short_name}_{name}"] = float(value)
        return figures

    def facts(self) -> dict[str, str]:
        return {f"{name}_left_out": why for name, why in self._left_out.items()}

    def stats(self) -> dict[str, Any]:
        """What each backend's get_stats() says, by name."""
        return {host.name: host.stats() for host in self._hosts}

    def _copy(self, space: Space, keys: list[bytes], tokens: list[int], chunk: int) -> Copy:
        key = keys[chunk]
        name = hashlib.sha256(space.digest + key + self._shard.to_bytes(4, "little")).hexdigest()
        parent = keys[chunk - 1] if chunk else bytes(len(key))
        ids = tokens[chunk * self._chunk : (chunk + 1) * self._chunk]
        return Copy(space, self._shard, key, parent, name, ids)


def _short_names(names: list[str]) -> list[str]:
    """Their classes; the second of a name is Name_2."""
    seen: Counter[str] = Counter()
    short_names = []
    for name in names:
        short = name.partition(":")[2]
        seen[short] += 1
        short_names.append(short if seen[short] == 1 else f"{short}_{seen[short]}")
    return short_names


def _in_time(make: Callable[[], CacheBackend]) -> CacheBackend:
    """On a thread of its own, which is left behind if it hangs."""
    made: Future[CacheBackend] = Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:  # even SystemExit
            made.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    threading.Thread(target=run, name="penstock-backend-start", daemon=True).start()
    if not wait([made], START_PATIENCE).done:
        raise TimeoutError(f"it has not started after {START_PATIENCE} s")
    return made.result()


def _make(name: str, config: BackendConfig) -> CacheBackend:
    module, _, attribute = name.partition(":")
    made = getattr(importlib.import_module(module), attribute)(config)
    if not isinstance(made, CacheBackend):
        raise TypeError(f"{name} is no subclass of CacheBackend")
    return made
