"""What a drive gives without an engine: alone, and on the way through host memory to the GPU; for
bench/gpu.py."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import threading
import time
from pathlib import Path

import torch
from penstock import _core

_PIECE = 1 << 20


class DriveCeiling:
    """Reads the first `size` bytes of a file, O_DIRECT, 1 MiB a request, `depth` at a time: only
    that, or with a copy to the GPU after each, which tells what the copies cost the drive."""

    def __init__(self, file: Path, size: int, depth: int, device: str) -> None:
        self._file = str(file)
        self._depth = depth
        self._pieces = size // _PIECE
        # Huge pages, as the raw read and the engine have: a request of small ones is split.
        self._memory = mmap.mmap(-1, depth * _PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._host = torch.frombuffer(self._memory, dtype=torch.uint8)
        ctypes.memset(self._host.data_ptr(), 0, len(self._memory))
        self._gpu = torch.empty(len(self._memory), dtype=torch.uint8, device=device)
        error = torch.cuda.cudart().cudaHostRegister(self._host.data_ptr(), len(self._memory), 0)
        assert int(error) == 0, error

    def close(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.cudart().cudaHostUnregister(self._host.data_ptr())

    def raw_gbs(self) -> float:
        return _core.raw_read(self._file, self._pieces * _PIECE, depth=self._depth)

    def through_host_gbs(self) -> float:
        """Threads that read a piece and copy it to the GPU, one after the other."""
        counter = itertools.count()
        file = os.open(self._file, os.O_RDONLY | os.O_DIRECT)
        short: list[int] = []

        def work(index: int) -> None:
            part = slice(index * _PIECE, (index + 1) * _PIECE)
            into, host, gpu = memoryview(self._memory)[part], self._host[part], self._gpu[part]
            stream = torch.cuda.Stream()
            while not short and (piece := next(counter)) < self._pieces:
                got = os.preadv(file, [into], piece * _PIECE)
                if got != _PIECE:
                    short.append(got)
                    return
                with torch.cuda.stream(stream):
                    gpu.copy_(host, non_blocking=True)
                stream.synchronize()

        workers = [threading.Thread(target=work, args=(i,)) for i in range(self._depth)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - start
        os.close(file)
        assert not short, f"a read of {_PIECE} bytes brought {short[0]}"
        return self._pieces * _PIECE / seconds / 1e9
