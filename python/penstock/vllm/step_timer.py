"""How long the engine takes to compute a step's tokens, measured without waiting for it.

On a GPU two events stand around the step on the engine's stream, and are looked at in later steps;
on the host the forward pass is over when its hook is called, so the clock will do. One thread, the
worker's. At most PENDING steps are under measurement, the others are not measured.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from typing import Any

PENDING = 8


class _HostClock:
    def mark(self) -> float:
        return time.perf_counter()

    def between(self, begin: float, end: float) -> float | None:
        return end - begin


class _GpuClock:
    """Events are used in turn: as many as can be under measurement, and two more."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._current_stream = torch.cuda.current_stream
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * PENDING + 2)]
        self._next = 0

    def mark(self) -> Any:
        event = self._events[self._next]
        self._next = (self._next + 1) % len(self._events)
        event.record(self._current_stream(self._device))
        return event

    def between(self, begin: Any, end: Any) -> float | None:
        return begin.elapsed_time(end) / 1e3 if end.query() else None


class StepTimer:
    def __init__(self, device: str) -> None:
        self._clock: Any = _HostClock() if device == "cpu" else _GpuClock(device)
        self._begun: Any = None
        self._pending: deque[tuple[Any, Any, float, float]] = deque()

    def begin(self) -> None:
        self._begun = self._clock.mark() if len(self._pending) < PENDING else None

    def end(self, tokens: float, pairs: float) -> None:
        if self._begun is not None:
            self._pending.append((self._begun, self._clock.mark(), tokens, pairs))
            self._begun = None

    def collect(self, into: array[float]) -> None:
        """Appends (tokens, pairs, seconds) of each step that is over by now."""
        while self._pending:
            begin, end, tokens, pairs = self._pending[0]
            seconds = self._clock.between(begin, end)
            if seconds is None:
                return
            self._pending.popleft()
            into.extend((tokens, pairs, seconds))
