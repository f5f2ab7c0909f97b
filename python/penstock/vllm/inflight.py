"""Loads under way, as the scheduler half sees them.

Answers two questions before a request may claim a hit: is another request loading the same chunk
already (then waiting makes it a local hit), and is there room for more bytes. Both answers are
bounded in time: a load that outlives its deadline by far no longer holds anybody back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from penstock.vllm.messages import LoadFailure

_GRACE = 1.0  # seconds; a load ends at its deadline, and is reported a step later


@dataclass
class _Loading:
    keys: tuple[bytes, ...]
    size: int
    until: float
    failure: LoadFailure | None = None


class InFlight:
    """Owned by the scheduler half; one thread."""

    def __init__(self, max_bytes: int, deadline: float) -> None:
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._loads: dict[str, _Loading] = {}
        self._by_key: dict[bytes, str] = {}

    def start(self, request_id: str, keys: tuple[bytes, ...], size: int) -> None:
        until = time.monotonic() + self._deadline + _GRACE
        self._loads[request_id] = _Loading(keys, size, until)
        for key in keys:
            self._by_key.setdefault(key, request_id)

    def is_loading(self, key: bytes) -> bool:
        """Whether a request is loading this chunk."""
        load = self._loads.get(self._by_key.get(key, ""))
        return load is not None and time.monotonic() < load.until

    def has_room(self, size: int) -> bool:
        """Whether `size` more bytes are within the limit. One load is always let through."""
        now = time.monotonic()
        used = sum(load.size for load in self._loads.values() if now < load.until)
        return used == 0 or used + size <= self._max_bytes

    def fail(self, request_id: str, failure: LoadFailure) -> None:
        load = self._loads.get(request_id)
        if load is not None and (load.failure is None or failure.chunk < load.failure.chunk):
            load.failure = failure

    def end(self, request_id: str) -> LoadFailure | None:
        """The load is over on all ranks; how it failed, if it did. Unknown ids are ignored."""
        load = self._loads.pop(request_id, None)
        if load is None:
            return None
        for key in load.keys:
            if self._by_key.get(key) == request_id:
                del self._by_key[key]
        return load.failure
