"""A real vLLM on a GPU: what one process saved, the next one restores; the same tokens come out.

The reference is an engine without a connector that serves each prompt twice: the second time it
hits its own prefix cache, so that it computes the same last tokens in the same shapes as an engine
that restored the rest; in bfloat16 other shapes give other roundings. Prompts are a multiple of
the chunk and one token long for the same reason. Needs a GPU (`make test-gpu`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "vllm"))
from driver import CHUNK  # noqa: E402
from models import make_model  # noqa: E402

LENGTHS = [CHUNK + 1, 4 * CHUNK + 1, 7 * CHUNK + 1, 12 * CHUNK + 1]
RESTORABLE = sum(n - 1 for n in LENGTHS)
LIMIT_S = 300  # of one engine


class Engine:
    """A process that serves LENGTHS twice; several may run at a time."""

    def __init__(self, work: Path, name: str, **order) -> None:
        self._out = work / f"{name}.json"
        self._log = work / f"{name}.log"
        order = {"store": "", "settings": {}, "lengths": LENGTHS, "out": str(self._out), **order}
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "PYTHONHASHSEED": "0",  # vLLM 0.26 seeds its block hashes at random otherwise
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        command = [sys.executable, str(HERE / "vllm_process.py"), json.dumps(order)]
        with self._log.open("w") as stream:
            self._process = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )

    def seen(self) -> dict:
        try:
            self._process.wait(LIMIT_S)
        finally:
            self._process.kill()
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
        ("llama", False, {"backend": ["local", "gds"], "load_in_step": "memory"}),
        ("mla", True, {"backend": "gds"}),
        ("mla", True, {"backend": ["local", "gds"]}),
    ],
    ids=["llama-eager", "llama-graphs", "llama-dram", "llama-in-step", "mla-eager", "mla-both"],
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
            subprocess.run(["rm", "-rf", settings["local_config"]["directory"]], check=True)
    assert tokens(saved["first"]) == tokens(reference["first"])
    assert restored["counters"]["restored_tokens"] == RESTORABLE
    within = len(LENGTHS) - 1 if "load_in_step" in settings else 0  # the first one proves itself
    assert restored["counters"]["in_step_loads"] == within
    assert tokens(restored["first"]) == tokens(reference["again"])
    for ours, theirs in zip(restored["first"], reference["again"], strict=True):
        assert ours["logprobs"] == pytest.approx(theirs["logprobs"], abs=1e-4)
