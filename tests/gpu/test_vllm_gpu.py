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


def engine(work: Path, name: str, **order) -> dict:
    out = work / f"{name}.json"
    log = work / f"{name}.log"
    order = {"store": "", "settings": {}, "lengths": LENGTHS, "out": str(out), **order}
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "PYTHONHASHSEED": "0",  # vLLM 0.26 seeds its block hashes at random otherwise
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    command = [sys.executable, str(HERE / "vllm_process.py"), json.dumps(order)]
    with log.open("w") as stream:
        subprocess.run(
            command, env=environment, stdout=stream, stderr=subprocess.STDOUT, timeout=300
        )
    assert out.exists(), log.read_text()[-6000:]
    return json.loads(out.read_text())


def tokens(run: list[dict]) -> list[list[int]]:
    return [served["tokens"] for served in run]


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
def test_a_restarted_engine_goes_on_from_the_store(tmp_path, kind, eager, settings):
    model = make_model(kind, tmp_path / "model")
    if "local" in settings["backend"]:
        directory = Path(f"/dev/shm/penstock-test-{os.getpid()}-{tmp_path.name}")
        settings = {**settings, "local_config": {"directory": str(directory)}}
    order = {
        "model": str(model),
        "eager": eager,
        "block_size": 64 if kind == "mla" else 16,
    }
    with_store = {**order, "store": str(tmp_path / "store")}
    with_store["settings"] = {**settings, "load_policy": "always"}
    try:
        reference = engine(tmp_path, "reference", **order)
        saved = engine(tmp_path, "saved", **with_store)
        restored = engine(tmp_path, "restored", **with_store)
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
