"""A real vLLM on a GPU: what one process saved, the next one restores; the same tokens come out.

The reference is an engine without a connector that serves each prompt twice: the second time it
hits its own prefix cache, so that it computes the same last tokens in the same shapes as an engine
that restored the rest; in bfloat16 other shapes give other roundings. Prompts are a multiple of
the chunk and one token long for the same reason. Needs a GPU (`make test-gpu`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "vllm")]
import vllm_process  # noqa: E402
from driver import CHUNK  # noqa: E402
from models import make_model  # noqa: E402

LENGTHS = [CHUNK + 1, 4 * CHUNK + 1, 7 * CHUNK + 1, 12 * CHUNK + 1]
RESTORABLE = sum(n - 1 for n in LENGTHS)
LIMIT_S = 300  # of one engine


os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",  # vLLM 0.26 seeds its block hashes at random otherwise
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
# Each engine is forked from a process that has vLLM's modules, and no CUDA: that halves its start.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["vllm.entrypoints.llm"])


class Engine:
    """A process that serves LENGTHS twice; several may run at a time."""

    def __init__(self, work: Path, name: str, **order) -> None:
        self._out, self._log = work / f"{name}.json", work / f"{name}.log"
        order = {"store": "", "settings": {}, "lengths": LENGTHS, **order}
        self._process = PROCESSES.Process(
            target=vllm_process.run, args=(order, self._out, self._log)
        )
        self._process.start()

    def seen(self) -> dict:
        self._process.join(LIMIT_S)
        self._process.kill()
        self._process.join()
        assert self._out.exists(), self._log.read_text()[-6000:]
        return json.loads(self._out.read_text())


@pytest.fixture(scope="module")
def without_store(tmp_path_factory):
    """An engine without a connector, once for each order."""
    started: dict[str, Engine] = {}
    results: dict[str, dict] = {}

    def start(order: dict):
        key = json.dumps(order)
        if key not in started:
            started[key] = Engine(tmp_path_factory.mktemp("reference"), "reference", **order)

        def seen() -> dict:
            if key not in results:
                results[key] = started[key].seen()
            return results[key]

        return seen

    return start


def tokens(run: list[dict]) -> list[list[int]]:
    return [served["tokens"] for served in run]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made: dict[str, Path] = {}

    def path(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_model(kind, tmp_path_factory.mktemp("model"))
        return made[kind]

    return path


@pytest.mark.parametrize(
    ("kind", "eager", "settings"),
    [
        ("llama", True, {"backend": "gds"}),
        ("llama", False, {"backend": "gds"}),
        ("llama", True, {"backend": "local"}),
        ("llama", False, {"backend": ["local", "gds"]}),
        ("mla", True, {"backend": "gds"}),
        ("mla", False, {"backend": ["local", "gds"]}),
    ],
    ids=["llama-eager", "llama-graphs", "llama-dram", "llama-both", "mla-eager", "mla-graphs"],
)
def test_a_restarted_engine_goes_on_from_the_store(
    tmp_path, models, without_store, kind, eager, settings
):
    if "local" in settings["backend"]:
        directory = Path(f"/dev/shm/penstock-test-{os.getpid()}-{tmp_path.name}")
        settings = {**settings, "local_config": {"directory": str(directory)}}
    order = {
        "model": str(models(kind)),
        "eager": eager,
        "block_size": 64 if kind == "mla" else 16,
    }
    with_store = {**order, "store": str(tmp_path / "store")}
    with_store["settings"] = {**settings, "load_policy": "always"}
    try:
        reference = without_store(order)
        saved = Engine(tmp_path, "saved", **with_store).seen()
        restored = Engine(tmp_path, "restored", **with_store).seen()
        reference = reference()
    finally:
        if "local_config" in settings:
            shutil.rmtree(settings["local_config"]["directory"], ignore_errors=True)
    assert tokens(saved["first"]) == tokens(reference["first"])
    assert restored["counters"]["restored_tokens"] == RESTORABLE
    # What lies in memory and on a drive is loaded within the step, once a load has come back.
    within = len(LENGTHS) - 1 if isinstance(settings["backend"], list) else 0
    assert restored["counters"]["in_step_loads"] == within
    assert tokens(restored["first"]) == tokens(reference["again"])
    for ours, theirs in zip(restored["first"], reference["again"], strict=True):
        assert ours["logprobs"] == pytest.approx(theirs["logprobs"], abs=1e-4)
