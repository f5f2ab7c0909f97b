"""What one would write instead of Penstock, over the same file and pages: cudaMemcpyBatchAsync,
plain cuFile threads, NIXL's POSIX back end. Each with several settings; the best one counts.

None of them checks a byte, keeps an index or a bound; cuFile and NIXL are even allowed to read into
memory that lies in one piece, and NIXL to stop in the host's memory. GB/s; GB = 1e9 bytes.

    python bench/peers.py --file FILE [--gb 2]      NIXL alone, on a machine without a GPU
"""

from __future__ import annotations

import argparse
import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_MIB = 1 << 20


class _Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


class _Attributes(ctypes.Structure):
    """cudaMemcpyAttributes of CUDA 13's driver_types.h."""

    _fields_ = [
        ("order", ctypes.c_int),
        ("source", _Location),
        ("target", _Location),
        ("flags", ctypes.c_uint),
    ]


_IN_STREAM_ORDER, _BESIDE_COMPUTE = 1, 1


def _best(settings: dict[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    """Median GB/s of the best setting, and which it is. The first round warms up."""
    medians = {}
    for name, run in settings.items():
        rates = sorted([run() for _ in range(rounds + 1)][1:])
        medians[name] = rates[len(rates) // 2]
    best = max(medians, key=lambda name: medians[name])
    return {"gbs": medians[best], "setting": best, "all": medians}


def attempt(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What it measures, or why it could not."""
    try:
        return measure(*arguments)
    except (OSError, RuntimeError, ImportError) as error:
        return {"failed": str(error)}


def memcpy_batch(host: torch.Tensor, pages: torch.Tensor, order: list[int], rounds: int) -> Any:
    """Pinned host memory in one piece to scattered pages and back. `pages`: uint8, (layers, rows,
    page bytes); `host`: at least as many bytes."""
    if int((torch.version.cuda or "0").split(".")[0]) < 13:
        raise RuntimeError(f"in CUDA {torch.version.cuda} cudaMemcpyBatchAsync differs")
    runtime = ctypes.CDLL("libcudart.so.13")
    layers, rows, size = pages.shape
    count = layers * rows
    base = torch.arange(layers)[:, None] * (rows * size) + torch.tensor(order)[None, :] * size
    scattered = base.flatten() + pages.data_ptr()
    whole = torch.arange(count) * size + host.data_ptr()
    sizes = torch.full((count,), size)
    attributes = _Attributes(_IN_STREAM_ORDER, _Location(), _Location(), _BESIDE_COMPUTE)
    first = ctypes.c_size_t(0)
    stream = torch.cuda.Stream()

    def copy(target: torch.Tensor, source: torch.Tensor, batch: int) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for at in range(0, count, batch):
            error = runtime.cudaMemcpyBatchAsync(
                ctypes.c_void_p(target[at:].data_ptr()),
                ctypes.c_void_p(source[at:].data_ptr()),
                ctypes.c_void_p(sizes.data_ptr()),
                ctypes.c_size_t(min(batch, count - at)),
                ctypes.byref(attributes),
                ctypes.byref(first),
                ctypes.c_size_t(1),
                ctypes.c_void_p(stream.cuda_stream),
            )
            if error:
                raise RuntimeError(f"cudaMemcpyBatchAsync failed with {error}")
        stream.synchronize()
        return count * size / (time.perf_counter() - start) / 1e9

    batches = sorted({min(n, count) for n in (512, 4096, count)})
    return {
        "to_pages": _best(
            {f"{n} copies a call": lambda n=n: copy(scattered, whole, n) for n in batches}, rounds
        ),
        "to_host": _best(
            {f"{n} copies a call": lambda n=n: copy(whole, scattered, n) for n in batches}, rounds
        ),
    }


class _Descriptor(ctypes.Structure):
    """CUfileDescr_t with a file descriptor."""

    _fields_ = [("type", ctypes.c_int), ("file", ctypes.c_void_p), ("fs_ops", ctypes.c_void_p)]


class _Outcome(ctypes.Structure):
    _fields_ = [("error", ctypes.c_int), ("cuda", ctypes.c_int)]


def cufile_threads(file: Path, gpu: torch.Tensor, rounds: int) -> Any:
    """Threads that read their part of a file into registered GPU memory in one piece."""
    cufile = ctypes.CDLL("libcufile.so.0")
    for name in ("cuFileDriverOpen", "cuFileHandleRegister", "cuFileBufRegister"):
        getattr(cufile, name).restype = _Outcome
    cufile.cuFileRead.restype = ctypes.c_ssize_t

    def must(outcome: _Outcome, what: str) -> None:
        if outcome.error:
            raise RuntimeError(f"{what} failed with {outcome.error}")

    total = min(gpu.numel(), file.stat().st_size) // (16 * _MIB) * (16 * _MIB)
    base = ctypes.c_void_p(gpu.data_ptr())
    must(cufile.cuFileDriverOpen(), "cuFileDriverOpen")
    fd = os.open(file, os.O_RDONLY | os.O_DIRECT)
    handle = ctypes.c_void_p()
    descriptor = _Descriptor(1, fd, None)
    try:
        must(
            cufile.cuFileHandleRegister(ctypes.byref(handle), ctypes.byref(descriptor)),
            "cuFileHandleRegister",
        )
        must(cufile.cuFileBufRegister(base, ctypes.c_size_t(total), 0), "cuFileBufRegister")

        def read(threads: int, size: int) -> float:
            short: list[int] = []
            begun = threading.Barrier(threads + 1)

            def work(index: int) -> None:
                if gpu.is_cuda:
                    torch.cuda.set_device(gpu.device)
                begun.wait()
                for at in range(index * size, total, threads * size):
                    got = cufile.cuFileRead(
                        handle,
                        base,
                        ctypes.c_size_t(min(size, total - at)),
                        ctypes.c_int64(at),
                        ctypes.c_int64(at),
                    )
                    if got != min(size, total - at):
                        short.append(got)
                        return

            workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
            for worker in workers:
                worker.start()
            begun.wait()
            start = time.perf_counter()
            for worker in workers:
                worker.join()
            if short:
                raise RuntimeError(f"cuFileRead answered {short[0]}")
            return total / (time.perf_counter() - start) / 1e9

        settings = {
            f"{threads} threads, {size // _MIB} MiB": lambda t=threads, s=size: read(t, s)
            for threads in (8, 32)
            for size in (_MIB, 4 * _MIB)
        }
        return _best(settings, rounds)
    finally:
        cufile.cuFileBufDeregister(base)
        if handle:
            cufile.cuFileHandleDeregister(handle)
        os.close(fd)
        cufile.cuFileDriverClose_v2()


def nixl_posix(file: Path, host: torch.Tensor, rounds: int) -> Any:
    """NIXL's POSIX back end from a file (O_DIRECT) into host memory in one piece."""
    from nixl_cu13 import _api as nixl

    total = min(host.numel(), file.stat().st_size) // (16 * _MIB) * (16 * _MIB)
    fd = os.open(file, os.O_RDONLY | os.O_DIRECT)

    def read(queue: str, size: int) -> Callable[[], float]:
        name = f"bench-{queue}-{size}"
        agent = nixl.nixl_agent(name, nixl.nixl_agent_config(backends=[]))
        agent.create_backend("POSIX", {queue: "true"})
        agent.register_memory([(host.data_ptr(), total, 0, "")], "DRAM")
        agent.register_memory([(0, total, fd, "")], "FILE")
        places = range(0, total, size)
        memory = agent.get_xfer_descs([(host.data_ptr() + at, size, 0) for at in places], "DRAM")
        blocks = agent.get_xfer_descs([(at, size, fd) for at in places], "FILE")
        request = agent.initialize_xfer("READ", memory, blocks, name)

        def run() -> float:
            start = time.perf_counter()
            state = agent.transfer(request)
            while state == "PROC":
                state = agent.check_xfer_state(request)
            if state != "DONE":
                raise RuntimeError(f"NIXL answered {state}")
            return total / (time.perf_counter() - start) / 1e9

        return run

    try:
        settings = {
            f"{queue}, {size // _MIB} MiB": read(queue, size)
            for queue in ("use_uring", "use_aio")
            for size in (_MIB, 4 * _MIB)
        }
        return _best(settings, rounds)
    finally:
        os.close(fd)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, required=True, help="a file on the drive to measure")
    parser.add_argument("--gb", type=float, default=2.0, help="GB read in each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    memory = torch.empty(int(options.gb * 1e9) + 4096, dtype=torch.uint8)
    aligned = memory[-memory.data_ptr() % 4096 :]
    print(attempt(nixl_posix, options.file, aligned, options.rounds))


if __name__ == "__main__":
    main()
