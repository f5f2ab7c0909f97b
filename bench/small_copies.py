"""How long a few bytes take between host and GPU while much larger copies are queued; for
bench/gpu.py."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

PIECE = 16 << 20
QUEUED = 4  # pieces


class SmallCopies:
    """4 bytes, one copy at a time: tokens go to the host like this, and what the next step computes
    comes from there."""

    def __init__(self, device: str) -> None:
        self._stream = torch.cuda.Stream()
        self._host = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        self._gpu = torch.zeros(1, dtype=torch.int32, device=device)

    def until(self, over: Callable[[], bool], way: str) -> dict[str, float]:
        """Microseconds that a copy takes; `over` is called all the time."""
        to, source = (self._host, self._gpu) if way == "to_host" else (self._gpu, self._host)
        times = []
        ended = False
        while not ended:
            start = time.perf_counter()
            with torch.cuda.stream(self._stream):
                to.copy_(source, non_blocking=True)
                done = self._stream.record_event()
            while not done.query():
                ended |= over()
            times.append((time.perf_counter() - start) * 1e6)
            ended |= over()
        times.sort()
        return {
            "p50": times[len(times) // 2],
            "p99": times[int(0.99 * len(times))],
            "worst": times[-1],
        }


class PlainCopies:
    """All of `gpu` to `host`, both uint8, piece after piece, on as many streams in turn."""

    def __init__(self, host: torch.Tensor, gpu: torch.Tensor, streams: int) -> None:
        self._left = list(zip(host.split(PIECE), gpu.split(PIECE), strict=True))
        self._streams = [torch.cuda.Stream() for _ in range(streams)]
        self._queued: list[torch.cuda.Event] = []

    def over(self) -> bool:
        """Keeps the queue full; true when all has been copied."""
        while self._queued and self._queued[0].query():
            self._queued.pop(0)
        while self._left and len(self._queued) < QUEUED:
            host, gpu = self._left.pop()
            stream = self._streams[len(self._left) % len(self._streams)]
            if self._queued:
                stream.wait_event(self._queued[-1])
            with torch.cuda.stream(stream):
                host.copy_(gpu, non_blocking=True)
            self._queued.append(stream.record_event())
        return not self._queued
