"""Keeps the rate of a store's drives fresh while nothing is loaded from them.

A thread of its own reads a little of what is stored, waits, and reads again: never for more than a
hundredth of the time, and not while loads tell the rate anyway. A drive that hangs holds this
thread and nothing else; its rate then stays unknown.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from penstock._core import PenstockError

Measure = Callable[[int], "tuple[int, float] | None"]  # bytes to read -> (bytes, seconds) or None


class Probe:
    SIZE = 32 << 20  # bytes of one measurement
    INTERVAL = 10.0  # seconds between two, and how long a load's rate is fresh
    SHARE = 0.01  # of the time

    def __init__(self, measure: Measure) -> None:
        """`measure`: Engine.probe_drives."""
        self._measure = measure
        self._results: deque[tuple[int, float]] = deque(maxlen=16)
        self._loaded_at = -self.INTERVAL
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-probe", daemon=True)
        self._thread.start()

    def loaded(self) -> None:
        """A load has just told the rate."""
        self._loaded_at = time.monotonic()

    def take(self) -> tuple[int, float] | None:
        """A measurement (bytes, seconds) that was not taken before, if there is one."""
        return self._results.popleft() if self._results else None

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)  # longer only if a drive hangs

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = self.INTERVAL
            if time.monotonic() - self._loaded_at < self.INTERVAL:
                continue
            begin = time.monotonic()
            try:
                result = self._measure(self.SIZE)
            except PenstockError:  # busy, or the drive failed: loads will say so
                continue
            if result is not None:
                self._results.append(result)
                pause = max(pause, (time.monotonic() - begin) / self.SHARE)
