"""How near the engine comes to the PCIe link and to the drive, with pages in GPU memory.

Every figure stands beside the raw ceiling of the same run: a plain 1 GiB pinned copy each way, an
O_DIRECT read of the pool file (1 MiB requests, as many in flight as the engine has), a bf16 matrix
product alone.

    python bench/gpu.py [--dir DIRECTORY] [--gb 4] [--rounds 5] [--json FILE] [--only PART ...]
                        [--minutes 8] [--io-depth 32]

Parts: dram (DRAM tier), beside (small copies beside ours), gemm (compute beside copies), layerwise,
submit, peers (what one would write instead; bench/peers.py), drive (through host memory), gds (the
same through cuFile, forced). Parts that would begin after the time is over are left out, and said
so.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import fmean, median
from typing import Any

import peers
import torch
from drive_ceiling import DriveCeiling
from layerwise import LayerLoop
from penstock import _core
from products import Gemm, LlamaLayer, Squares, enqueue, seconds_of
from rig import (
    DEVICE,
    ROWS_PER_CHUNK,
    SHAPES,
    Link,
    Rig,
    chain,
    over_drive,
    over_memory,
    pool_of,
)
from small_copies import PlainCopies, SmallCopies


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(rig: Rig, link: Link, rounds: int, ceiling: DriveCeiling | None) -> dict[str, float]:
    """Alternating rounds of raw, save, raw and load. What was saved first is loaded; it lies at the
    beginning of the pool, where the drive is read too, before a load and after it: its own speed
    changes with the place and from one second to the next."""
    raw_in, raw_out, saves, loads, drive, through = [], [], [], [], [], []
    save_cpu = load_cpu = 0.0
    warm = 1 if ceiling else 3  # memory is given by the kernel page by page, once
    page = rig.pages[0, rig.order[0]]
    expected = page.clone()
    for r in range(rounds + warm):
        out, into = link.to_host(), link.to_gpu()
        before = cpu_seconds()
        save = rig.run("save", r)
        saved = cpu_seconds()
        page.zero_()
        around = [(ceiling.raw_gbs(), ceiling.through_host_gbs())] if ceiling else []
        torch.cuda.synchronize()
        middle = cpu_seconds()
        load = rig.run("load", 0)
        after = cpu_seconds()
        assert torch.equal(page, expected)
        if r < warm:
            continue
        if ceiling:
            around.append((ceiling.raw_gbs(), ceiling.through_host_gbs()))
            drive.append(fmean([raw for raw, _ in around]))
            through.append(fmean([copied for _, copied in around]))
        raw_out.append(out)
        raw_in.append(into)
        saves.append(save)
        loads.append(load)
        save_cpu += saved - before
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
    if ceiling:
        figures["raw_read_gbs"] = median(drive)
        figures["read_and_copy_gbs"] = median(through)
        figures["load_of_drive"] = median([a / b for a, b in zip(loads, drive, strict=True)])
        figures["load_of_read_and_copy"] = median(
            [a / b for a, b in zip(loads, through, strict=True)]
        )
    return figures


def part_drive(root: Path, link: Link, arguments: Any, enable_gds: str = "false") -> dict[str, Any]:
    out = {}
    for name, shape in SHAPES.items():
        settings = {"enable_gds": enable_gds, "io_depth": arguments.io_depth}
        with over_drive(root, arguments.gb, shape, **settings) as rig:
            depth = arguments.io_depth
            with closing(DriveCeiling(pool_of(root), rig.bytes, depth, DEVICE)) as ceiling:
                out[name] = measure(rig, link, arguments.rounds, ceiling)
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
    """GEMM speed kept while saving, while loading, and while doing both, at full rate to and from
    DRAM: what the loop takes longer than just before and just after, over the seconds of the jobs.
    """
    gemm = Gemm(DEVICE)
    product_s = seconds_of(gemm.run, warm=50, count=200)
    compute = torch.cuda.Stream()
    ways = {"save": ("save",), "load": ("load",), "both": ("save", "load")}
    kept: dict[str, list[float]] = {way: [] for way in ways}
    speed: dict[str, list[float]] = {way: [] for way in ways}
    with over_memory(root, arguments.gb) as rig:
        count = int(rig.bytes / 30e9 / product_s)  # longer than the jobs

        def loop(*jobs: tuple[str, int]) -> tuple[float, float]:
            for _, seed in jobs:
                chain(rig.chunks, seed)
            torch.cuda.synchronize()
            with torch.cuda.stream(compute):
                begin, end = enqueue(gemm.run, count)
            start = time.perf_counter()
            rig.finish(*[rig.submit(kind, seed) for kind, seed in jobs])
            jobs_s = time.perf_counter() - start
            end.synchronize()
            return begin.elapsed_time(end) / 1e3, jobs_s

        for seed in range(3):
            rig.run("save", seed)
        saved = 2  # the last chain that was
        before_s, _ = loop()
        for _ in range(2 * arguments.rounds):
            for way, kinds in ways.items():
                jobs = [(kind, saved + 1 if kind == "save" else saved) for kind in kinds]
                beside_s, jobs_s = loop(*jobs)
                after_s, _ = loop()
                saved += "save" in kinds
                kept[way].append(1 - (beside_s - fmean([before_s, after_s])) / jobs_s)
                before_s = after_s
                speed[way].append(len(kinds) * rig.bytes / jobs_s / 1e9)
    out: dict[str, Any] = {"alone_tflops": gemm.flops / product_s / 1e12}
    for way, copy in (("load", link.into_gpu), ("save", link.into_host)):
        torch.cuda.synchronize()
        with torch.cuda.stream(compute):
            _, end = enqueue(gemm.run, int(4 * link.bytes / 40e9 / product_s))
        out[f"plain_{way}_gbs"] = link.bytes / seconds_of(copy, warm=1, count=2) / 1e9
        assert not end.query(), "the products were over before the copies"
    for way in ways:
        out[f"{way}_kept"] = median(kept[way])
        out[f"{way}_gbs"] = median(speed[way])
    print("gemm", json.dumps(out), flush=True)
    return out


def part_layerwise(root: Path, link: Link, arguments: Any) -> dict[str, Any]:
    """A loop over 32 layers of products, each after its layer has been loaded, with products for
    half the time of the load, for as long and for twice as long. Who waits takes turns: the GPU
    grows slower as it grows warm."""
    out: dict[str, Any] = {}
    with over_memory(root, arguments.gb) as rig:
        rig.run("save", 0)
        load_s = median([rig.bytes / 1e9 / rig.run("load", 0) for _ in range(arguments.rounds)])
        loop = LayerLoop(rig, link)
        arrivals = [loop.arrivals() for _ in range(arguments.rounds)]
        out["load_alone_s"] = load_s
        out["first_layer_s"] = median([first for first, _ in arrivals])
        out["last_layer_s"] = median([last for _, last in arrivals])
        for kind in (LlamaLayer, Squares):
            work = kind(DEVICE)
            for ratio in (0.5, 1.0, 2.0):
                products = work.layer(ratio * load_s / rig.layers)
                loop.seconds("none", products)
                rounds = [
                    {who: loop.seconds(who, products) for who in loop.WHO}
                    for _ in range(arguments.rounds)
                ]
                seconds = {who: median([a_round[who] for a_round in rounds]) for who in loop.WHO}
                longer = max(load_s, seconds["none"])
                out[f"{kind.__name__} {ratio:g}"] = {"compute_alone_s": seconds["none"]} | {
                    f"{who}_waits_of_the_longer": seconds[who] / longer for who in loop.WHO[1:]
                }
    out["wait_for_layer_us"] = median(loop.wait_s) * 1e6
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
    depth = arguments.io_depth
    with over_drive(root, gigabytes, io_depth=depth) as rig:
        rig.run("save", 0)
        pool = pool_of(root)
        raw = [_core.raw_read(str(pool), rig.bytes, depth=depth) for _ in range(rounds)]
        out["drive"] = {
            "raw_read_gbs": median(raw),
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
    parser.add_argument("--io-depth", type=int, default=32, help="requests in flight on the drive")
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
