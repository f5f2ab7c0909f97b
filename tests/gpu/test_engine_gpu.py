"""The engine over pages in GPU memory: what is saved comes back, elsewhere, after a restart;
poisoned neighbours stay as they are; damage and faults are misses. Needs a GPU (`make test-gpu`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

from penstock import _core  # noqa: E402
from penstock.config import flatten  # noqa: E402

DEVICE = "cuda:0"
POISON = 0x5A
GEOMETRIES = {  # page bytes, layers
    "llama_8b": (65536, 8),
    "llama_70b_tp8": (8192, 20),
    "mla": (18432, 7),
}
ROWS, ROWS_PER_CHUNK, CHUNKS = 256, 16, 6


def open_engine(directory: Path, layout, device: str = DEVICE, **gds):
    settings = {
        "backend": "gds",
        "gds_config": {"cache_dir": str(directory), "max_cache_size_gb": 2, **gds},
        "log_level": "warning",
    }
    return _core.Engine.open(_core.Config.from_entries(flatten(settings)), [layout], device)


def make_pages(page_bytes: int, layers: int, device: str = DEVICE) -> torch.Tensor:
    return torch.full((layers, ROWS, page_bytes), POISON, dtype=torch.uint8, device=device)


def layout_of(pages: torch.Tensor):
    layers, rows, page_bytes = pages.shape
    regions = [
        (pages[layer].data_ptr(), rows, pages.stride(1), page_bytes, layer, 2)
        for layer in range(layers)
    ]
    return (ROWS_PER_CHUNK, regions)


def keys(count: int) -> list[bytes]:
    chain, previous = [], b"\0" * 32
    for i in range(count):
        previous = hashlib.sha256(previous + i.to_bytes(4, "little")).digest()
        chain.append(previous)
    return chain


def run_job(engine, kind: str, namespace: int, rows: list[int], first: int = 0, **extra):
    """`first`: the job's first chunk in the chain."""
    chain = keys(first + len(rows) // ROWS_PER_CHUNK)
    parents = [b"\0" * 32, *chain[:-1]][first:]
    chain = chain[first:]
    stream = torch.cuda.current_stream().cuda_stream
    job = engine.submit(
        kind,
        namespace,
        0,
        b"".join(chain),
        b"".join(parents),
        [0] * len(chain),
        rows,
        stream=stream,
        **extra,
    )
    return job


def finish(engine, job):
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        engine.wait(1.0)
        for result in engine.poll():
            if result.id == job:
                return result
    raise AssertionError("the job did not complete")


def scattered(seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(ROWS, generator=generator)[: CHUNKS * ROWS_PER_CHUNK].tolist()


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=DEVICE)


def save(
    directory: Path, page_bytes: int, layers: int, rows: list[int], draw=noise, **gds
) -> torch.Tensor:
    pages = make_pages(page_bytes, layers)
    pages[:, rows] = draw((layers, len(rows), page_bytes))
    engine = open_engine(directory, layout_of(pages), **gds)
    namespace = engine.open_namespace(b"n" * 32, "{}")
    result = finish(engine, run_job(engine, "save", namespace, rows))
    assert result.status == "ok", result.chunk_status
    engine.close()
    return pages[:, rows].clone()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("layerwise", [False, True])
def test_what_was_saved_comes_back_and_nothing_else(tmp_path, geometry, layerwise):
    page_bytes, layers = GEOMETRIES[geometry]
    expected = save(tmp_path / "cache", page_bytes, layers, scattered(1))
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages))
    namespace = engine.open_namespace(b"n" * 32, "{}")
    rows = scattered(2)
    job = run_job(engine, "load", namespace, rows, layerwise=layerwise)
    if layerwise:
        stream = torch.cuda.Stream()
        for layer in range(layers):
            assert engine.wait_layer_on_stream(job, layer, stream.cuda_stream)
            with torch.cuda.stream(stream):
                seen = pages[layer, rows].clone()
            stream.synchronize()
            assert torch.equal(seen, expected[layer]), f"layer {layer} was not ready"
    assert finish(engine, job).status == "ok"
    assert torch.equal(pages[:, rows], expected)
    others = torch.ones(ROWS, dtype=torch.bool)
    others[rows] = False
    assert bool((pages[:, others.to(DEVICE)] == POISON).all())
    engine.close()


def numbers(shape: tuple[int, ...]) -> torch.Tensor:
    """bfloat16 of a normal distribution, whose exponents compress."""
    values = torch.randn((*shape[:-1], shape[-1] // 2), dtype=torch.bfloat16, device=DEVICE)
    return values.view(torch.uint8)


@pytest.mark.parametrize("algorithm", ["zstd", "lz4"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_what_was_packed_comes_back_and_nothing_else(tmp_path, geometry, algorithm):
    page_bytes, layers = GEOMETRIES[geometry]
    packing = {"enable_compression": True, "compression_algo": algorithm}
    expected = save(tmp_path / "cache", page_bytes, layers, scattered(1), numbers, **packing)
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages), **packing)
    namespace = engine.open_namespace(b"n" * 32, "{}")
    rows = scattered(2)
    assert finish(engine, run_job(engine, "load", namespace, rows)).status == "ok"
    assert engine.metrics()["unpacked_chunks"] == CHUNKS
    assert torch.equal(pages[:, rows], expected)
    others = torch.ones(ROWS, dtype=torch.bool)
    others[rows] = False
    assert bool((pages[:, others.to(DEVICE)] == POISON).all())
    engine.close()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_same_through_cufile(tmp_path, geometry):
    page_bytes, layers = GEOMETRIES[geometry]
    expected = save(tmp_path / "cache", page_bytes, layers, scattered(1), enable_gds="force")
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages), enable_gds="force")
    if engine.facts()["gds_path"] == "none":
        pytest.skip(engine.facts()["gds_reason"])
    namespace = engine.open_namespace(b"n" * 32, "{}")
    rows = scattered(2)
    assert finish(engine, run_job(engine, "load", namespace, rows)).status == "ok"
    assert torch.equal(pages[:, rows], expected)
    others = torch.ones(ROWS, dtype=torch.bool)
    others[rows] = False
    assert bool((pages[:, others.to(DEVICE)] == POISON).all())
    metrics = engine.metrics()
    assert metrics["cufile_read_bytes"] >= expected.numel()
    assert metrics["cufile_failures"] == 0
    engine.close()


def test_a_save_reads_what_the_stream_had_queued_and_not_what_comes_after(tmp_path):
    page_bytes, layers = GEOMETRIES["llama_8b"]
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages))
    namespace = engine.open_namespace(b"n" * 32, "{}")
    rows = scattered(3)
    a = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(20):
        a = (a @ a) * 1e-4  # keeps the stream busy
    pages[:, rows] = 0x33
    job = run_job(engine, "save", namespace, rows)
    time.sleep(0.2)  # gives a wrong order the time to show; the right one needs none
    engine.release_rows(0, rows, torch.cuda.current_stream().cuda_stream)
    pages[:, rows] = 0x44
    result = finish(engine, job)
    kept = [i for i, status in enumerate(result.chunk_status) if status == "ok"]
    pages[:] = POISON
    load = run_job(engine, "load", namespace, rows)
    loaded = finish(engine, load)
    for i in kept:
        chunk = rows[i * ROWS_PER_CHUNK : (i + 1) * ROWS_PER_CHUNK]
        assert loaded.chunk_status[i] == "ok"
        assert bool((pages[:, chunk] == 0x33).all())
    engine.close()


def test_what_others_copy_to_the_host_gets_through_beside_saves():
    """Sampled tokens go to the host while KV is saved, through the same copy engine of the GPU."""
    jobs, per_job, row_bytes, layers = 8, 8, 65536, 32
    pages = torch.zeros(
        (layers, per_job * ROWS_PER_CHUNK, row_bytes), dtype=torch.uint8, device=DEVICE
    )
    directory = tempfile.mkdtemp(prefix="penstock-test-", dir="/dev/shm")
    settings = {
        "backend": "local",
        "local_config": {"directory": directory, "max_cache_size_gb": 4},
        "log_level": "warning",
    }
    config = _core.Config.from_entries(flatten(settings))
    engine = _core.Engine.open(config, [layout_of(pages)], DEVICE)
    try:
        namespace = engine.open_namespace(b"n" * 32, "{}")
        rows = list(range(per_job * ROWS_PER_CHUNK))
        for job in range(jobs):
            run_job(engine, "save", namespace, rows, first=job * per_job)
        stream, ended, between = torch.cuda.Stream(), 0, 0
        token = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        host = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        limit = time.monotonic() + 60
        while ended < jobs and time.monotonic() < limit:
            begun = ended
            with torch.cuda.stream(stream):
                host.copy_(token, non_blocking=True)
            stream.synchronize()
            ended += sum(result.status == "ok" for result in engine.poll())
            between += begun > 0 and ended < jobs
        assert ended == jobs
        assert between >= jobs
    finally:
        engine.close()
        shutil.rmtree(directory)


def test_a_damaged_block_is_a_miss_and_what_follows_is_not_loaded(tmp_path):
    page_bytes, layers = GEOMETRIES["mla"]
    rows = scattered(4)
    expected = save(tmp_path / "cache", page_bytes, layers, rows)
    pool = tmp_path / "cache" / "pool.data"
    wanted = expected[layers - 1, 2 * ROWS_PER_CHUNK].cpu().numpy().tobytes()[:64]
    data = pool.read_bytes()
    at = data.find(wanted)
    assert at > 0
    with pool.open("r+b") as file:
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
        os.fsync(file.fileno())
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages))
    namespace = engine.open_namespace(b"n" * 32, "{}")
    result = finish(engine, run_job(engine, "load", namespace, rows))
    assert list(result.chunk_status)[:3] == ["ok", "ok", "corrupt"]
    for i, status in enumerate(result.chunk_status):  # later chunks may have been there before
        part = slice(i * ROWS_PER_CHUNK, (i + 1) * ROWS_PER_CHUNK)
        assert status != "ok" or torch.equal(pages[:, rows[part]], expected[:, part])
    assert engine.metrics()["load_chunks_corrupt"] == 1
    engine.close()


@pytest.mark.parametrize("fault", ["read:3:eio", "read:2:short", "read:4:corrupt", "read:1:delay"])
def test_a_drive_that_fails_is_a_miss(tmp_path, monkeypatch, fault):
    page_bytes, layers = GEOMETRIES["llama_8b"]
    rows = scattered(5)
    expected = save(tmp_path / "cache", page_bytes, layers, rows)
    monkeypatch.setenv("PENSTOCK_TEST_FAULT", fault)  # of the engine through host memory
    pages = make_pages(page_bytes, layers)
    engine = open_engine(tmp_path / "cache", layout_of(pages), enable_gds="false")
    namespace = engine.open_namespace(b"n" * 32, "{}")
    result = finish(engine, run_job(engine, "load", namespace, rows))
    for i, status in enumerate(result.chunk_status):
        part = slice(i * ROWS_PER_CHUNK, (i + 1) * ROWS_PER_CHUNK)
        if status == "ok":
            assert torch.equal(pages[:, rows[part]], expected[:, part])
    engine.close()


def test_host_memory_is_refused(tmp_path):
    pages = torch.zeros((2, ROWS, 4096), dtype=torch.uint8)
    with pytest.raises(_core.PenstockError, match="region 0 is not memory of cuda:0"):
        open_engine(tmp_path / "cache", layout_of(pages))


def test_a_gpu_that_is_not_there_is_named(tmp_path):
    pages = make_pages(4096, 1)
    settings = {"backend": "gds", "gds_config": {"cache_dir": str(tmp_path / "c")}}
    config = _core.Config.from_entries(flatten(settings))
    with pytest.raises(_core.PenstockError, match="cuda:63 does not exist"):
        _core.Engine.open(config, [layout_of(pages)], "cuda:63")
