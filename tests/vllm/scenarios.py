"""What engine processes do. Each scenario is one process and returns what it saw as JSON.

python tests/vllm/scenarios.py NAME WORK_DIRECTORY OUT.json [key=value ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import damage
from driver import (
    CHUNK,
    connector,
    counted_once,
    counters,
    forget_local,
    open_engine,
    prompt,
    published_once,
    sampling,
    seen,
    serve,
    settle_saves,
)
from models import make_model

SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {}


def scenario(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    SCENARIOS[function.__name__] = function
    return function


LENGTHS = [prompt(n, seed=n) for n in (300, 700, 1500, 3000)]
BOUNDARIES = [prompt(n, seed=n) for n in (255, 256, 257, 511, 512, 513)]
SHARED = [prompt(n, seed=n, shared=600) for n in (700, 900, 1100)]
OTHERS = [prompt(n, seed=n) for n in (401, 1001)]
DECODING = [prompt(200, seed=1)]  # and 200 tokens more
CROWD = [prompt(1500, seed=50 + i) for i in range(4)]  # too many for the blocks there are
FEW_BLOCKS = {"num_gpu_blocks_override": 200}
# Where the CPU has AMX, vLLM would take a backend that has no float32.
MLA_SETTINGS = {"block_size": None, "max_model_len": 2048, "attention_backend": "CPU_MLA"}


def _llama(work: Path, transfer: dict[str, Any] | None, **settings: Any) -> Any:
    return open_engine(make_model("llama", work / "llama"), transfer, **settings)


@scenario
def baseline(work: Path) -> dict[str, Any]:
    """No connector at all."""
    llm = _llama(work, None, **FEW_BLOCKS)
    decoding = serve(llm, DECODING, max_tokens=200)
    grown = [DECODING[0] + decoding[0]["tokens"]]
    return {
        "lengths": serve(llm, LENGTHS),
        "boundaries": serve(llm, BOUNDARIES),
        "shared": serve(llm, SHARED),
        "others": serve(llm, OTHERS),
        "decoding": decoding,
        "grown": serve(llm, grown),
        "crowd": serve(llm, CROWD, max_tokens=140),
    }


@scenario
def save(work: Path, **settings: Any) -> dict[str, Any]:
    """A first process: nothing is in the store."""
    llm = _llama(work, connector(work / "store", **settings), **FEW_BLOCKS)
    result = {
        "lengths": serve(llm, LENGTHS),
        "boundaries": serve(llm, BOUNDARIES),
        "shared": [serve(llm, [ids])[0] for ids in SHARED],
        "decoding": serve(llm, DECODING, max_tokens=200),
        "crowd": serve(llm, CROWD, max_tokens=140),
    }
    result["counters"] = settle_saves(llm)
    return result


@scenario
def restore(work: Path, decoded: str = "", **settings: Any) -> dict[str, Any]:
    """A second process over the same store. `decoded`: tokens generated from DECODING[0]."""
    llm = _llama(work, connector(work / "store", **settings), **FEW_BLOCKS)
    result: dict[str, Any] = {"steps": {}}

    def step(name: str, outputs: list[dict]) -> None:
        result[name] = outputs
        result["steps"][name] = counters()

    step("lengths", serve(llm, LENGTHS))
    step("boundaries", serve(llm, BOUNDARIES))
    step("shared", serve(llm, SHARED))
    step("others", serve(llm, OTHERS))
    grown = DECODING[0] + [int(token) for token in decoded.split(",")]
    step("grown", serve(llm, [grown]))
    step("crowd", serve(llm, CROWD, max_tokens=140))
    forget_local(llm)
    step("skipping", serve(llm, LENGTHS[1:2], prompt_logprobs=1))
    forget_local(llm)
    step("aborted", _abort_while_loading(llm, LENGTHS[3]))
    step("after_abort", serve(llm, LENGTHS[3:]))
    return result


def _abort_while_loading(llm: Any, ids: list[int]) -> list[dict]:
    """Adds a request, lets its load begin, aborts it; then runs the engine until it is empty and
    the load has ended, by itself or cut short."""
    from vllm.v1.request import RequestStatus

    engine, before = llm.llm_engine, counters()
    requests = engine.engine_core.engine_core.scheduler.requests
    engine.add_request("doomed", {"prompt_token_ids": ids}, sampling(4))
    for _ in range(1000):
        engine.step()
        if any(r.status == RequestStatus.WAITING_FOR_REMOTE_KVS for r in requests.values()):
            break
    engine.abort_request(["doomed"])
    outputs = []
    for _ in range(1000):
        if not engine.has_unfinished_requests():
            break
        outputs.extend(engine.step())

    def ended(found: dict[str, float]) -> bool:
        return any(found[name] > before[name] for name in ("restored_tokens", "failed_loads"))

    counted_once(llm, ended)
    return [seen(output) for output in outputs if output.outputs[0].token_ids]


@scenario
def faults(work: Path) -> dict[str, Any]:
    """Real damage under a running engine, with vLLM's default kv_load_failure_policy."""
    from penstock.vllm import scheduler

    scheduler._PAUSE = 0.0  # seconds without loads after a drive failed: not while we test them
    store = work / "faulty"
    llm = _llama(work, connector(store))
    ids = prompt(1500, seed=7)
    result: dict[str, Any] = {"cold": serve(llm, [ids]), "steps": {}}
    settle_saves(llm)

    def again(name: str, prompts: list[list[int]]) -> None:
        forget_local(llm)
        result[name] = serve(llm, prompts)
        result["steps"][name] = settle_saves(llm)

    again("whole", [ids])
    damage.flip(store, block=2)
    again("flipped_third", [ids])
    again("healed", [ids])
    damage.flip_everything(store)
    again("flipped_all", [ids])
    again("healed_all", [ids])
    damage.flip_everything(store)
    again("flipped_together", [ids, ids, ids])
    again("saved_again", [ids])
    damage.truncate_pools(store)
    again("truncated", [ids])
    again("after", [ids])
    result["others"] = serve(llm, OTHERS)
    return result


@scenario
def stuck(work: Path, **settings: Any) -> dict[str, Any]:
    """PENSTOCK_TEST_FAULT makes a read never come back; the load's deadline ends it."""
    store = work / "stuck"
    llm = _llama(work, connector(store, load_deadline_s=1, **settings))
    ids = prompt(1500, seed=8)
    result: dict[str, Any] = {"cold": serve(llm, [ids])}
    settle_saves(llm)
    forget_local(llm)
    result["stuck"] = serve(llm, [ids])
    result["stuck_counters"] = settle_saves(llm)
    forget_local(llm)
    result["paused"] = serve(llm, [ids])
    result["paused_counters"] = counters()
    return result


@scenario
def policy(work: Path, store: str = "policy", wait: float = 0.0) -> dict[str, Any]:
    """load_policy: auto, from no measurement to choices. `wait`: for the probe, in seconds."""
    from penstock.probe import Probe

    if not wait:
        Probe.INTERVAL = 0.2
    llm = _llama(work, connector(work / store, load_policy="auto"))
    prompts = [LENGTHS[3], *(prompt(n, seed=90 + n) for n in (2900, 2950, 3000))]
    result: dict[str, Any] = {"first": [serve(llm, [ids])[0] for ids in prompts]}
    settle_saves(llm)
    time.sleep(wait)
    result["first_counters"] = settle_saves(llm)
    forget_local(llm)
    result["again"] = [serve(llm, [ids])[0] for ids in prompts]
    result["again_counters"] = settle_saves(llm)
    chunks = result["again_counters"]["restored_tokens"] // CHUNK
    result["published"] = published_once(
        llm,
        lambda found: (
            found.get('penstock_load_chunks_total{result="ok"}') == chunks
            and found.get('penstock_lookup_hits_total{tier="gds"}', 0) >= chunks
        ),
    )
    forget_local(llm)
    result["late"] = [serve(llm, [ids])[0] for ids in prompts]
    result["late_counters"] = settle_saves(llm)
    return result


@scenario
def gemma(work: Path, store: str = "gemma-store", cold: bool = True) -> dict[str, Any]:
    """A hybrid of sliding-window and full attention: three groups over the same memory."""
    llm = open_engine(make_model("gemma", work / "gemma"), connector(work / store))
    prompts = [prompt(n, seed=n) for n in (255, 256, 257, 513, 800, 1500, 3000)]
    result: dict[str, Any] = {"steps": {}}
    if cold:
        result["cold"] = serve(llm, prompts)
        result["steps"]["cold"] = settle_saves(llm)
        forget_local(llm)
    result["restored"] = serve(llm, prompts)
    result["steps"]["restored"] = counters()
    forget_local(llm)
    damage.flip_everything(work / store)
    result["damaged"] = serve(llm, prompts[-1:])
    result["steps"]["damaged"] = settle_saves(llm)
    forget_local(llm)
    result["healed"] = serve(llm, prompts[-1:])
    result["steps"]["healed"] = counters()
    return result


@scenario
def mla(work: Path) -> dict[str, Any]:
    """Multi-head latent attention: one tensor a layer, blocks of 16 tokens."""
    model = make_model("mla", work / "mla")
    llm = open_engine(model, connector(work / "mla-store"), **MLA_SETTINGS)
    prompts = [prompt(n, seed=n) for n in (257, 300, 513, 700, 1025)]
    result: dict[str, Any] = {"cold": serve(llm, prompts), "cold_counters": settle_saves(llm)}
    forget_local(llm)
    result["restored"] = serve(llm, prompts)
    result["restored_counters"] = counters()
    return result


@scenario
def tensor_parallel(
    work: Path, model: str = "llama", store: str = "tp", cold: bool = True
) -> dict[str, Any]:
    """Two ranks. Counters come from both, tokens from one."""
    directory = make_model(model, work / model)
    settings = MLA_SETTINGS if model == "mla" else {}
    llm = open_engine(
        directory,
        connector(work / store),
        tensor_parallel_size=2,
        kv_cache_memory_bytes=128 << 20,
        **settings,
    )
    prompts = [prompt(n, seed=n) for n in (257, 513, 1025)]
    result: dict[str, Any] = {}
    if cold:
        result["cold"] = serve(llm, prompts)
        result["cold_counters"] = settle_saves(llm)
        forget_local(llm)
    result["restored"] = serve(llm, prompts)
    result["restored_counters"] = counters()
    return result


@scenario
def once(
    work: Path,
    model: str = "llama",
    store: str = "once",
    seed: int = 0,
    engine: dict[str, Any] | None = None,
    by_name: bool = False,
    damaged: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Serves LENGTHS, then again from the store, with any settings of connector and engine."""
    directory = make_model(model, work / f"{model}-{seed}", seed)
    transfer = connector(work / store, **settings)
    if by_name:  # known by its plug-in entry point
        del transfer["kv_connector_module_path"]
    llm = open_engine(directory, transfer, **(engine or {}))
    result: dict[str, Any] = {"first": serve(llm, LENGTHS), "first_counters": counters()}
    result["decoding"] = serve(llm, DECODING, max_tokens=200)
    result["saved_counters"] = settle_saves(llm)
    forget_local(llm)
    result["again"] = serve(llm, LENGTHS)
    result["again_counters"] = settle_saves(llm)
    if damaged:
        forget_local(llm)
        damage.flip_everything(work / store)
        result["damaged"] = serve(llm, LENGTHS)
        result["damaged_counters"] = settle_saves(llm)
        forget_local(llm)
        result["healed"] = serve(llm, LENGTHS)
        result["healed_counters"] = settle_saves(llm)
    return result


@scenario
def aged(work: Path, limit: float) -> dict[str, Any]:
    """Serves LENGTHS, again from the store, and once more when what is there is too old."""
    llm = _llama(work, connector(work / "aged", max_age_s=limit))
    result: dict[str, Any] = {"first": serve(llm, LENGTHS)}
    result["first_counters"] = settle_saves(llm)
    too_old = time.time() + limit
    for step in ("again", "late", "later"):
        forget_local(llm)
        result[step] = serve(llm, LENGTHS)
        result[f"{step}_counters"] = settle_saves(llm)
        if step == "again":
            time.sleep(max(0.0, too_old - time.time()))
    return result


@scenario
def in_step(work: Path, memory: str) -> dict[str, Any]:
    """LENGTHS one at a time from host memory, within the step; with damage in both tiers, and in
    memory alone."""
    store = work / "in-step"
    local = {"directory": memory, "max_cache_size_gb": 0.2}
    llm = _llama(
        work,
        connector(store, backend=["local", "gds"], local_config=local),
    )
    result: dict[str, Any] = {}

    def one_by_one(name: str) -> None:
        forget_local(llm)
        result[name] = [serve(llm, [ids])[0] for ids in LENGTHS]
        result[f"{name}_counters"] = settle_saves(llm)
        published_once(llm, lambda found: found.get("penstock_write_behind_pending_bytes") == 0)

    one_by_one("first")
    one_by_one("again")
    damage.flip_everything(Path(memory))
    damage.flip_everything(store)
    one_by_one("damaged")
    one_by_one("saved")  # a request whose load failed saves nothing
    one_by_one("healed")
    damage.flip_everything(Path(memory))
    one_by_one("mended")
    return result


@scenario
def abort_storm(work: Path) -> dict[str, Any]:
    """Requests come and are aborted at every step of their lives, over a warm store."""
    llm = _llama(work, connector(work / "storm"), **FEW_BLOCKS)
    result: dict[str, Any] = {"cold": serve(llm, LENGTHS)}
    settle_saves(llm)
    engine = llm.llm_engine
    for turn in range(60):
        if turn % 3 == 0:
            forget_local(llm)
        names = [f"{turn}-{i}" for i in range(4)]
        for name, ids in zip(names, LENGTHS, strict=True):
            engine.add_request(name, {"prompt_token_ids": ids}, sampling(6))
        for _ in range(turn % 7):
            engine.step()
        engine.abort_request(names[: 1 + turn % 4])
        for _ in range(1000):
            if not engine.has_unfinished_requests():
                break
            engine.step()
    forget_local(llm)
    result["after"] = serve(llm, LENGTHS)
    result["counters"] = counters()
    return result


@scenario
def endless(work: Path, store: str = "killed") -> dict[str, Any]:
    """Serves and saves prompts that are always new, until it is killed."""
    llm = _llama(work, connector(work / store))
    for turn in range(1_000_000):
        serve(llm, [prompt(1100, seed=1_000_000 + 100 * turn + i) for i in range(4)], max_tokens=2)
        (work / "turns").write_text(str(turn))
    return {}


def main() -> None:
    name, work, out, *pairs = sys.argv[1:]
    arguments = dict(pair.split("=", 1) for pair in pairs)
    parsed = {key: json.loads(value) for key, value in arguments.items()}
    result = SCENARIOS[name](Path(work), **parsed)
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
