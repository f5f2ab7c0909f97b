"""BackendHost: holds one backend of a user at arm's length.

A thread calls it, so one that hangs holds nobody: a call is waited for until a deadline, and while
one is overdue, the next are misses at once. Retrievals come before stores, of which a bounded
number waits.

What comes back is believed only with its proof: the last 8 bytes of each row are the checksum of
the copy's bytes, made from the copy's name (copy_checksum of the core). So a wrong, old or foreign
copy is a miss.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import torch

from penstock import Engine, _core
from penstock.layerwise import KEY_BYTES, Chunks, Layerwise
from penstock.spaces import Space

logger = logging.getLogger("penstock")

PROOF_BYTES = 8
_WAITING_STORES = 256
_CLOSE_PATIENCE = 5.0  # seconds that close() waits for stores


@dataclass(frozen=True)
class Copy:
    space: Space
    shard: int
    key: bytes
    parent: bytes
    name: str  # for the backend
    tokens: list[int]


class Refused(Exception):
    """What a backend gave back cannot be used; the first word is what it is counted as."""


class Stage:
    """Host memory for one copy, with an engine over it: copies go from here to the store and back.

    For the host's thread only.
    """

    def __init__(
        self, core: Any, copy_bytes: int, shape: tuple[int, int], dtype: torch.dtype
    ) -> None:
        self._shape = shape
        self._dtype = dtype
        self._page = torch.zeros(copy_bytes, dtype=torch.uint8)
        region = (self._page.data_ptr(), 1, copy_bytes, copy_bytes, 0, dtype.itemsize)
        self._engine = Engine.open(core, [(1, [region])])
        self._transfers = Layerwise(self._engine)

    def load(self, copy: Copy) -> torch.Tensor | None:
        """The copy from the store, with its proof; None: it is not there any more."""
        if self._run("load", copy) != "ok":
            return None
        tokens, row = self._shape[0], self._page.numel() // self._shape[0]
        kv = torch.empty((tokens, row + PROOF_BYTES), dtype=torch.uint8)
        kv[:, :row] = self._page.view(tokens, row)
        kv[:, row:] = self._proof(copy)
        return kv.view(self._dtype)

    def keep(self, copy: Copy, kv: Any) -> None:
        """Puts what a backend gave back into the store. Refused: it is not this copy."""
        if not isinstance(kv, torch.Tensor) or kv.dtype != self._dtype or kv.shape != self._shape:
            raise Refused("wrong_size")
        rows = kv.detach().to("cpu").contiguous().view(torch.uint8)
        row = rows.shape[1] - PROOF_BYTES
        self._page.view(self._shape[0], row).copy_(rows[:, :row])  # ours: proved where it stays
        if not bool((rows[:, row:] == self._proof(copy)).all()):
            raise Refused("wrong_bytes")
        if self._run("save", copy) not in ("ok", "present"):
            raise Refused("not_kept")

    def close(self) -> None:
        self._engine.close()

    def _run(self, kind: str, copy: Copy) -> str:
        space = self._engine.open_namespace(copy.space.digest, copy.space.text)
        chunks = Chunks(space, copy.shard, copy.key, copy.parent, [0], [0])
        job = self._transfers.submit(kind, chunks, None)
        return "busy" if job is None else self._transfers.result(job).status

    def _proof(self, copy: Copy) -> torch.Tensor:
        assert len(copy.key) == KEY_BYTES
        number = _core.copy_checksum(
            copy.space.digest, copy.key, 0, copy.shard, self._page.data_ptr(), self._page.numel()
        )
        return torch.tensor(list(number.to_bytes(PROOF_BYTES, "little")), dtype=torch.uint8)


class BackendHost:
    """fetch(), offer(), counts() and close() are for any thread."""

    def __init__(
        self, name: str, short_name: str, backend: Any, stage: Stage, timeout_s: float
    ) -> None:
        """`short_name`: in the names of figures, another one for each backend."""
        self.name = name
        self.short_name = short_name
        self._backend = backend
        self._stage = stage
        self._timeout = timeout_s
        self._changed = threading.Condition()
        # All guarded by _changed.
        self._urgent: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._stores: deque[Copy] = deque()
        self._busy_since: float | None = None
        self._closing = False
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="penstock-backend", daemon=True)
        self._thread.start()

    def fetch(self, copy: Copy, until: float) -> bool:
        """Whether the copy is in the store now, from this backend. Returns by `until`."""
        return self._ask(lambda: self._fetch(copy), until) is True

    def offer(self, copy: Copy) -> None:
        """Queues a copy that is in the store; dropped and counted when too many wait."""
        with self._changed:
            if len(self._stores) >= _WAITING_STORES:
                self._counts["dropped"] += 1
                return
            self._stores.append(copy)
            self._changed.notify()

    def stats(self) -> Any:
        return self._ask(self._backend.get_stats, time.monotonic() + self._timeout)

    def counts(self) -> dict[str, int]:
        with self._changed:
            return dict(self._counts)

    def close(self) -> None:
        """Waits a few seconds for stores; a thread that hangs in the backend is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_PATIENCE)

    def _ask(self, work: Callable[[], Any], until: float) -> Any:
        future: Future[Any] = Future()
        with self._changed:
            overdue = (
                self._busy_since is not None and time.monotonic() - self._busy_since > self._timeout
            )
            if overdue or self._closing:
                self._counts["slow"] += overdue
                return None
            self._urgent.append((future, work))
            self._changed.notify()
        if not wait([future], max(0.0, until - time.monotonic())).done:
            future.cancel()  # if it has not begun
            self._count("slow", f"no answer within {self._timeout} s")
            return None
        if (error := future.exception()) is not None:
            self._count("errors", f"{type(error).__name__}: {error}")
            return None
        return future.result()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._next()) is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # whatever a user's code raises, even SystemExit
                    future.set_exception(error)
            with self._changed:
                self._busy_since = None
        self._stage.close()

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            while not self._urgent and not self._stores:
                if self._closing:
                    return None
                self._changed.wait()
            self._busy_since = time.monotonic()
            if self._urgent:
                return self._urgent.popleft()
            copy = self._stores.popleft()
            return Future(), lambda: self._store(copy)

    def _fetch(self, copy: Copy) -> bool:
        if not self._backend.contains(copy.name, copy.tokens):
            return self._missed("misses")
        kv = self._backend.retrieve(copy.name, copy.tokens)
        if kv is None:
            return self._missed("misses")
        try:
            self._stage.keep(copy, kv)
        except Refused as refused:
            return self._missed(str(refused), f"{copy.name} is {refused}")
        self._count("hits")
        return True

    def _store(self, copy: Copy) -> None:
        try:
            kv = self._stage.load(copy)
            if kv is None:
                return self._count("dropped")
            self._backend.store(copy.name, copy.tokens, self._placed(kv))
        except BaseException as error:  # whatever a user's code raises, even SystemExit
            return self._count("errors", f"{type(error).__name__}: {error}")
        self._count("stored")

    def _placed(self, kv: torch.Tensor) -> torch.Tensor:
        device = getattr(self._backend, "device", None)
        return kv.to(device) if isinstance(device, torch.device) else kv

    def _missed(self, what: str, why: str = "") -> bool:
        self._count(what, why)
        return False

    def _count(self, what: str, why: str = "") -> None:
        with self._changed:
            self._counts[what] += 1
            first = bool(why) and what not in self._said
            self._said.add(what)
        if first:  # once of each kind
            logger.warning("penstock: the backend %s: %s; it counts as a miss", self.name, why)
