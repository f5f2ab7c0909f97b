"""How near the engine comes to the PCIe link and to the drive, with pages in GPU memory.

Every figure stands beside the raw ceiling of the same run: a plain 1 GiB pinned copy each way, an
O_DIRECT read of the pool file (1 MiB requests, 32 in flight), a bf16 matrix product alone.

    python bench/gpu.py [--dir DIRECTORY] [--gb 4] [--rounds 5] [--json FILE] [--only PART ...]
                        [--minutes 8]

Parts: dram (DRAM tier), beside (small copies beside ours), gemm (compute beside copies), layerwise,
submit, peers (what one would write instead; bench/peers.py), drive (through host memory), gds (the
same through cuFile, forced). Parts that would begin after the time is over are left out, and said
so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import peers
import torch
from penstock import _core
from penstock.config import flatten
from products import Gemm, LlamaLayer, Squares, enqueue, seconds_of
from small_copies import PlainCopies, SmallCopies

DEVICE = "cuda:0"
ROWS_PER_CHUNK = 16  # 256 tokens in pages of 16
LLAMA = (65536, 32)  # page bytes, layers
SHAPES = {
    "64 KiB (Llama-3.1-8B)": LLAMA,
    "8 KiB (70B at TP8)": (8192, 80),
    "18 KiB (DeepSeek-V3 MLA)": (18432, 61),
}


def median(values: list[float]) -> float:
    return statistics.median(values)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Link:
    """The plain copies that everything is compared with."""

    def __init__(self) -> None:
        self.host = torch.ones(1 << 30, dtype=torch.uint8, pin_memory=True)
        self.gpu = torch.ones(1 << 30, dtype=torch.uint8, device=DEVICE)
        self.bytes = self.host.numel()

    def into_gpu(self) -> None:
        self.gpu.copy_(self.host, non_blocking=True)

    def into_host(self) -> None:
        self.host.copy_(self.gpu, non_blocking=True)

    def _gbs(self, copy: Callable[[], None]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        copy()
        torch.cuda.synchronize()
        return self.bytes / (time.perf_counter() - start) / 1e9

    def to_gpu(self) -> float:
        return self._gbs(self.into_gpu)

    def to_host(self) -> float:
        return self._gbs(self.into_host)


@cache
def chain(count: int, seed: int) -> tuple[bytes, bytes]:
    """The keys of `count` chunks and of their parents. Made once, outside of what is timed."""
    keys = [b"\0" * 32]
    for i in range(count):
        keys.append(hashlib.sha256(keys[-1] + f"{seed}/{i}".encode()).digest())
    return b"".join(keys[1:]), b"".join(keys[:-1])


class Rig:
    """Pages in GPU memory, an engine over a store, and chains of chunks to save and load."""

    def __init__(self, root: Path, shape: tuple[int, int], gigabytes: float, **settings: Any):
        page_bytes, layers = shape
        chunk = page_bytes * layers * ROWS_PER_CHUNK
        self.chunks = max(1, int(gigabytes * 1e9 / chunk))
        self.bytes = self.chunks * chunk
        self.rows = self.chunks * ROWS_PER_CHUNK
        self.pages = torch.randint(
            0, 255, (layers, self.rows, page_bytes), dtype=torch.uint8, device=DEVICE
        )
        self.layers = layers
        self.seed = 0
        config = {
            "backend": "gds",
            "log_level": "warning",
            "load_policy": "always",
            **settings,
        }
        config["gds_config"] = {
            "cache_dir": str(root / "cache"),
            "max_cache_size_gb": 3 * gigabytes + 2,
            "max_write_gb_per_day": 0,
            **settings.get("gds_config", {}),
        }
        layout = (
            ROWS_PER_CHUNK,
            [
                (self.pages[i].data_ptr(), self.rows, page_bytes, page_bytes, i, 2)
                for i in range(layers)
            ],
        )
        entries = flatten(config)
        self.engine = _core.Engine.open(_core.Config.from_entries(entries), [layout], DEVICE)
        self.namespace = self.engine.open_namespace(b"b" * 32, "{}")
        order = torch.randperm(self.rows, generator=torch.Generator().manual_seed(7))
        self.order = order.tolist()

    def submit(self, kind: str, seed: int, **extra: Any) -> int:
        packed, parents = chain(self.chunks, seed)
        stream = torch.cuda.current_stream().cuda_stream
        groups = [0] * self.chunks
        start = time.perf_counter()
        job = self.engine.submit(
            kind, self.namespace, 0, packed, parents, groups, self.order, stream=stream, **extra
        )
        self.submit_s = time.perf_counter() - start
        assert job is not None, "the queue is full"
        return job

    def finish(self, job: int) -> Any:
        while True:
            self.engine.wait(10.0)
            for result in self.engine.poll():
                if result.id == job:
                    assert result.status == "ok", (result.status, list(result.chunk_status)[:8])
                    return result

    def run(self, kind: str, seed: int) -> float:
        """GB/s."""
        chain(self.chunks, seed)
        torch.cuda.synchronize()
        start = time.perf_counter()
        self.finish(self.submit(kind, seed))
        return self.bytes / (time.perf_counter() - start) / 1e9


def measure(rig: Rig, link: Link, rounds: int, pool: Path | None) -> dict[str, float]:
    """Alternating rounds of raw, save, raw and load."""
    raw_in, raw_out, saves, loads, drive = [], [], [], [], []
    save_cpu = load_cpu = 0.0
    warm = 1 if pool else 3  # memory is given by the kernel page by page, once
    for r in range(rounds + warm):
        out, into = link.to_host(), link.to_gpu()
        before = cpu_seconds()
        save = rig.run("save", r)
        middle = cpu_seconds()
        expected = int(rig.pages[0, rig.order[0], :8].sum())
        load = rig.run("load", r)
        after = cpu_seconds()
        assert int(rig.pages[0, rig.order[0], :8].sum()) == expected
        raw_drive = _core.raw_read(str(pool), rig.bytes) if pool else 0.0
        if r < warm:
            continue
        raw_out.append(out)
        raw_in.append(into)
        saves.append(save)
        loads.append(load)
        drive.append(raw_drive)
        save_cpu += middle - before
        load_cpu += after - middle
    total = rounds * rig.bytes / 1e9
    figures = {
        "raw_h2d_gbs": median(raw_in),
        "raw_d2h_gbs": median(raw_out),
        "save_gbs": median(saves),
        "load_gbs": median(loads),
        "save_of_link": median([a / b for a, b in zip(saves, raw_out, strict=True)]),
        "load_of_link": median([a / b for a, b in zip(loads, raw_in, strict=True)]),
        "save_cpu_s_per_gb": save_cpu / total,
        "load_cpu_s_per_gb": load_cpu / total,
    }
    if pool:
        figures["raw_read_gbs"] = median(drive)
        figures["load_of_drive"] = median([a / b for a, b in zip(loads, drive, strict=True)])
    return figures


@contextmanager
def over_drive(
    root: Path, gigabytes: float, shape: tuple[int, int] = LLAMA, enable_gds: str = "false"
) -> Iterator[Rig]:
    rig = Rig(root, shape, gigabytes, gds_config={"enable_gds": enable_gds})
    try:
        yield rig
    finally:
        rig.engine.close()
        shutil.rmtree(root / "cache")


@contextmanager
def over_memory(root: Path, gigabytes: float, shape: tuple[int, int] = LLAMA) -> Iterator[Rig]:
    directory = tempfile.mkdtemp(prefix="penstock-bench-", dir="/dev/shm")
    local = {"directory": directory, "max_cache_size_gb": 2.2 * gigabytes + 0.5}
    rig = Rig(root, shape, gigabytes, backend="local", local_config=local)
    try:
        yield rig
    finally:
        rig.engine.close()
        shutil.rmtree(directory)


def pool_of(root: Path) -> Path:
    return root / "cache" / "pool.data"


def part_drive(root: Path, link: Link, arguments: Any, enable_gds: str = "false") -> dict[str, Any]:
    out = {}
    for name, shape in SHAPES.items():
        with over_drive(root, arguments.gb, shape, enable_gds) as rig:
            out[name] = measure(rig, link, arguments.rounds, pool_of(root))
            facts = rig.engine.facts()
            out[name] |= {key: facts[key] for key in ("io_engine", "gds_path", "gds_reason")}
        print(name, json.dumps(out[name]), flush=True)
    return out


def part_gds(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    return part_drive(root, link, arguments, "force")


def part_dram(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    out = {}
    for name, shape in SHAPES.items():
        with over_memory(root, arguments.gb, shape) as rig:
            out[name] = measure(rig, link, arguments.rounds, None)
        print(name, json.dumps(out[name]), flush=True)
    return out


def part_beside(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """Small copies while gigabytes are saved or loaded, and beside plain copies."""
    small = SmallCopies(DEVICE)
    out: dict[str, Any] = {}
    with over_memory(root, arguments.gb) as rig:
        for seed in range(3):
            rig.run("save", seed)
        for kind in ("save", "load"):
            for way in ("to_host", "to_gpu"):
                if kind == "save":
                    seed += 1
                torch.cuda.synchronize()
                job = rig.submit(kind, seed)
                out[f"{way}_beside_{kind}_us"] = small.until(
                    lambda job=job: any(result.id == job for result in rig.engine.poll()), way
                )
    for streams in (1, 2):
        torch.cuda.synchronize()
        plain = PlainCopies(link.host, link.gpu, streams)
        out[f"to_host_beside_plain_copies_on_{streams}_us"] = small.until(plain.over, "to_host")
    print("beside", json.dumps(out), flush=True)
    return out


def part_gemm(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """GEMM speed kept while saving, and while loading, at full rate to and from DRAM: what the loop
    takes longer than just before, over the seconds of the job."""
    gemm = Gemm(DEVICE)
    product_s = seconds_of(gemm.run, warm=50, count=200)
    compute = torch.cuda.Stream()
    kept: dict[str, list[float]] = {"save": [], "load": []}
    speed: dict[str, list[float]] = {"save": [], "load": []}
    with over_memory(root, arguments.gb) as rig:
        count = int(rig.bytes / 40e9 / product_s)  # longer than the job

        def loop(kind: str | None, seed: int) -> tuple[float, float]:
            chain(rig.chunks, seed)
            torch.cuda.synchronize()
            with torch.cuda.stream(compute):
                begin, end = enqueue(gemm.run, count)
            start = time.perf_counter()
            if kind:
                rig.finish(rig.submit(kind, seed))
            job_s = time.perf_counter() - start
            end.synchronize()
            return begin.elapsed_time(end) / 1e3, job_s

        for seed in range(3):
            rig.run("save", seed)
        for seed in range(3, 2 * arguments.rounds + 3):
            for kind in ("save", "load"):
                alone_s, _ = loop(None, seed)
                both_s, job_s = loop(kind, seed)
                kept[kind].append(1 - (both_s - alone_s) / job_s)
                speed[kind].append(rig.bytes / job_s / 1e9)
    out: dict[str, Any] = {"alone_tflops": gemm.flops / product_s / 1e12}
    for way, copy in (("load", link.into_gpu), ("save", link.into_host)):
        torch.cuda.synchronize()
        with torch.cuda.stream(compute):
            _, end = enqueue(gemm.run, int(4 * link.bytes / 40e9 / product_s))
        out[f"plain_{way}_gbs"] = link.bytes / seconds_of(copy, warm=1, count=2) / 1e9
        assert not end.query(), "the products were over before the copies"
    for kind in ("save", "load"):
        out[f"{kind}_kept"] = median(kept[kind])
        out[f"{kind}_gbs"] = median(speed[kind])
    print("gemm", json.dumps(out), flush=True)
    return out


def part_layerwise(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """A loop over 32 layers of products, each after its layer has been loaded: the GPU's stream
    waits for it, or the caller, as the vLLM connector does. With products for half the time of the
    load, for as long and for twice as long."""
    out: dict[str, Any] = {}
    compute = torch.cuda.Stream()
    waits: list[float] = []
    with over_memory(root, arguments.gb) as rig:
        rig.run("save", 0)
        load_s = median([rig.bytes / 1e9 / rig.run("load", 0) for _ in range(arguments.rounds)])

        def wait(job: int, layer: int, who: str) -> None:
            start = time.perf_counter()
            if who == "stream":
                assert rig.engine.wait_layer_on_stream(job, layer, compute.cuda_stream)
                waits.append(time.perf_counter() - start)
            else:
                assert rig.engine.wait_layer(job, layer, 10.0)

        def loop(products: Callable[[], None], who: str | None) -> float:
            torch.cuda.synchronize()
            start = time.perf_counter()
            job = rig.submit("load", 0, layerwise=True) if who else None
            with torch.cuda.stream(compute):
                for layer in range(rig.layers):
                    if job is not None and who:
                        wait(job, layer, who)
                    products()
            compute.synchronize()
            seconds = time.perf_counter() - start
            if job is not None:
                rig.finish(job)
            return seconds

        def first_and_last() -> tuple[float, float]:
            torch.cuda.synchronize()
            start = time.perf_counter()
            job = rig.submit("load", 0, layerwise=True)
            wait(job, 0, "caller")
            first = time.perf_counter()
            wait(job, rig.layers - 1, "caller")
            last = time.perf_counter()
            rig.finish(job)
            return first - start, last - start

        arrivals = [first_and_last() for _ in range(arguments.rounds)]
        out["load_alone_s"] = load_s
        out["first_layer_s"] = median([first for first, _ in arrivals])
        out["last_layer_s"] = median([last for _, last in arrivals])
        for kind in (LlamaLayer, Squares):
            work = kind(DEVICE)
            for ratio in (0.5, 1.0, 2.0):
                products = work.layer(ratio * load_s / rig.layers)
                loop(products, None)
                seconds = {
                    who: median([loop(products, who) for _ in range(arguments.rounds)])
                    for who in (None, "stream", "caller")
                }
                longer = max(load_s, seconds[None])
                out[f"{kind.__name__} {ratio:g}"] = {
                    "compute_alone_s": seconds[None],
                    "stream_waits_of_the_longer": seconds["stream"] / longer,
                    "caller_waits_of_the_longer": seconds["caller"] / longer,
                }
    out["wait_for_layer_us"] = median(waits) * 1e6
    print("layerwise", json.dumps(out), flush=True)
    return out


def part_submit(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """Time to submit a job of 4096 pages."""
    times = []
    with over_drive(root, 8.6) as rig:
        pages = min(4096, rig.rows)
        chunks = pages // ROWS_PER_CHUNK
        packed, parents = chain(chunks, 0)
        rows, groups = rig.order[: chunks * ROWS_PER_CHUNK], [0] * chunks
        for _ in range(50):
            start = time.perf_counter()
            stream = torch.cuda.current_stream().cuda_stream
            job = rig.engine.submit(
                "load", rig.namespace, 0, packed, parents, groups, rows, stream=stream
            )
            times.append(time.perf_counter() - start)
            while not any(result.id == job for result in rig.engine.poll()):
                rig.engine.wait(1.0)
    out = {"rows": len(rows), "submit_us": median(times) * 1e6}
    print("submit", json.dumps(out), flush=True)
    return out


def part_peers(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """What one would write instead, over the pages and the file that the engine has just used: from
    memory beside a load from the DRAM tier and the plain copy, from the drive beside a load through
    host memory and the raw read."""
    rounds, gigabytes = arguments.rounds, min(arguments.gb, 1.0)
    out: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        with over_memory(root, gigabytes, shape) as rig:
            for seed in range(3):
                rig.run("save", seed)
            out[name] = {
                "raw_h2d_gbs": median([link.to_gpu() for _ in range(rounds)]),
                "raw_d2h_gbs": median([link.to_host() for _ in range(rounds)]),
                "penstock_load_gbs": median([rig.run("load", 2) for _ in range(rounds)]),
                "penstock_save_gbs": median([rig.run("save", 3 + i) for i in range(rounds)]),
                "memcpy_batch": peers.attempt(
                    peers.memcpy_batch, link.host, rig.pages, rig.order, rounds
                ),
            }
        print(name, json.dumps(out[name]), flush=True)
    with over_drive(root, gigabytes) as rig:
        rig.run("save", 0)
        pool = pool_of(root)
        out["drive"] = {
            "raw_read_gbs": median([_core.raw_read(str(pool), rig.bytes) for _ in range(rounds)]),
            "penstock_load_gbs": median([rig.run("load", 0) for _ in range(rounds)]),
            "nixl_posix": peers.attempt(peers.nixl_posix, pool, link.host, rounds),
            "cufile_threads": peers.attempt(peers.cufile_threads, pool, link.gpu, rounds),
        }
    print("drive", json.dumps(out["drive"]), flush=True)
    return out


PARTS = {
    "dram": part_dram,
    "beside": part_beside,
    "gemm": part_gemm,
    "layerwise": part_layerwise,
    "submit": part_submit,
    "peers": part_peers,
    "drive": part_drive,
    "gds": part_gds,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", default=".", help="a directory on the drive to measure")
    parser.add_argument("--gb", type=float, default=4.0, help="GB moved in each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=8, help="in which parts may begin")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/gpu.py: no GPU", file=sys.stderr)
        return 2
    until = time.monotonic() + 60 * arguments.minutes
    link = Link()
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name(0)}
    for part in arguments.only:
        if time.monotonic() > until:
            print(f"{part} left out: {arguments.minutes:g} minutes are over", flush=True)
            continue
        with tempfile.TemporaryDirectory(dir=arguments.dir) as root:
            figures[part] = PARTS[part](Path(root), link, arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
