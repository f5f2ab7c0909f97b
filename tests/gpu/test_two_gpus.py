"""Several GPUs: engines of one process, each with its own, and one process for each GPU, over the
same store. Needs two GPUs (`make test-gpu`).
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if torch.cuda.device_count() < 2:
    pytest.skip("fewer than two GPUs", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_engine_gpu import (  # noqa: E402
    GEOMETRIES,
    finish,
    layout_of,
    make_pages,
    open_engine,
    run_job,
    scattered,
)

PAGE_BYTES, LAYERS = GEOMETRIES["mla"]


class OfGpu:
    def __init__(self, directory: Path, gpu: int) -> None:
        self.gpu = gpu
        device = f"cuda:{gpu}"
        self.pages = make_pages(PAGE_BYTES, LAYERS, device)
        self.engine = open_engine(directory, layout_of(self.pages), device)
        self.namespace = self.engine.open_namespace(b"n" * 32, "{}")
        self.rows = scattered(gpu)

    def run(self, kind: str) -> None:
        with torch.cuda.device(self.gpu):
            result = finish(self.engine, run_job(self.engine, kind, self.namespace, self.rows))
        assert result.status == "ok", result.chunk_status

    def fill(self) -> None:
        drawn = torch.randint(0, 256, (LAYERS, len(self.rows), PAGE_BYTES), dtype=torch.uint8)
        self.pages[:, self.rows] = drawn.to(self.pages.device)
        torch.cuda.synchronize(self.gpu)

    def seen(self) -> torch.Tensor:
        return self.pages[:, self.rows].cpu()


def test_engines_of_one_process_each_move_the_pages_of_their_own_gpu(tmp_path):
    current = torch.cuda.current_device()
    first, second = OfGpu(tmp_path / "cache", 0), OfGpu(tmp_path / "cache", 1)
    assert torch.cuda.current_device() == current
    first.fill()
    first.run("save")
    second.run("load")
    assert torch.equal(second.seen(), first.seen())
    first.engine.close()
    second.engine.close()


def save(directory: Path, seen: Path) -> None:
    mine = OfGpu(directory, 0)
    mine.fill()
    mine.run("save")
    torch.save(mine.seen(), seen)
    mine.engine.close()


def load(directory: Path, seen: Path) -> None:
    mine = OfGpu(directory, 1)
    mine.run("load")
    torch.save(mine.seen(), seen)
    mine.engine.close()


def test_a_process_for_each_gpu_shares_the_store(tmp_path):
    processes = multiprocessing.get_context("spawn")
    for work in (save, load):
        seen = tmp_path / work.__name__
        process = processes.Process(target=work, args=(tmp_path / "cache", seen))
        process.start()
        process.join(120)
        assert process.exitcode == 0
    assert torch.equal(torch.load(tmp_path / "load"), torch.load(tmp_path / "save"))
