"""What the scenarios share: starting an engine, serving prompts, reading our own counters.

Runs in the process of the engine. Nothing here asserts; scenarios return what they saw, and pytest
compares it in another process.
"""

from __future__ import annotations

import importlib.util
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from models import VOCABULARY

CHUNK = 256


def prompt(length: int, seed: int, shared: int = 0, shared_seed: int = 0) -> list[int]:
    """Token ids; the first `shared` of them are the same for all prompts of a `shared_seed`."""
    head = random.Random(10_000 + shared_seed)
    tail = random.Random(seed)
    ids = [head.randrange(3, VOCABULARY) for _ in range(shared)]
    return ids + [tail.randrange(3, VOCABULARY) for _ in range(length - shared)]


def connector(cache_dir: Path, **settings: Any) -> dict[str, Any]:
    """vLLM's kv_transfer_config. kv_load_failure_policy stays vLLM's default on purpose."""
    extra = {"cache_dir": str(cache_dir), "chunk_size": CHUNK, "max_cache_size_gb": 2}
    extra["load_policy"] = "always"  # small models compute faster than any drive reads
    return {
        "kv_connector": "PenstockConnector",
        "kv_connector_module_path": "penstock.vllm",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {**extra, **settings},
    }


def open_engine(model: Path, transfer: dict[str, Any] | None = None, **settings: Any) -> Any:
    from vllm import LLM

    if transfer is not None:
        count_observations()
    defaults: dict[str, Any] = {
        "skip_tokenizer_init": True,
        "enforce_eager": True,
        "dtype": "float32",
        "max_model_len": 4096,
        "max_num_seqs": 8,
        "block_size": 32,
        "kv_cache_memory_bytes": 512 << 20,
        "disable_log_stats": False,
        "seed": 0,
    }
    return LLM(model=str(model), kv_transfer_config=transfer, **{**defaults, **settings})


def sampling(max_tokens: int = 8, **extra: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0,
        max_tokens=max_tokens,
        detokenize=False,
        ignore_eos=True,
        logprobs=1,
        **extra,
    )


def serve(llm: Any, prompts: Sequence[list[int]], max_tokens: int = 8, **extra: Any) -> list[dict]:
    """Serves all prompts at once; what came out of each, in order."""
    outputs = llm.generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        sampling(max_tokens, **extra),
        use_tqdm=False,
    )
    return [seen(output) for output in outputs]


def seen(output: Any) -> dict[str, Any]:
    completion = output.outputs[0]
    tokens = list(completion.token_ids)
    steps = completion.logprobs or []
    return {
        "prompt": len(output.prompt_token_ids),
        "tokens": tokens,
        "logprobs": [step[t].logprob for step, t in zip(steps, tokens, strict=True)],
        "cached": output.num_cached_tokens,
        "reason": completion.finish_reason,
    }


def published() -> dict[str, float]:
    """Our samples as vLLM gives them to Prometheus, without its prefix and labels. A step brings
    them there."""
    from penstock.vllm.stats import PREFIX
    from prometheus_client import REGISTRY

    found = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in ("model_name", "engine")}
            text = ",".join(f'{name}="{value}"' for name, value in labels.items())
            found[sample.name.removeprefix(PREFIX) + (f"{{{text}}}" if text else "")] = sample.value
    return {name: value for name, value in found.items() if name.startswith("penstock_")}


_counted: dict[str, float] = {}


def count_observations() -> None:
    """Sums what the connector's statistics bring to the front end, for counters()."""
    from penstock.vllm.stats import COUNTERS, PenstockPromMetrics

    if _counted:
        return
    _counted.update(dict.fromkeys(COUNTERS, 0.0))
    observe = PenstockPromMetrics.observe

    def observe_and_count(self: Any, data: dict[str, Any], engine_idx: int = 0) -> None:
        for name in COUNTERS:
            _counted[name] += data.get(name, 0.0)
        observe(self, data, engine_idx)

    PenstockPromMetrics.observe = observe_and_count


def counters() -> dict[str, float]:
    """The connector's own counters. A step brings them here."""
    return dict(_counted)


def published_once(
    llm: Any, holds: Callable[[dict[str, float]], bool], timeout: float = 20.0
) -> dict[str, float]:
    """Steps the engine until the samples are so; the engines' come once a second, each its own."""
    return _once(llm, published, holds, timeout)


def counted_once(
    llm: Any, holds: Callable[[dict[str, float]], bool], timeout: float = 20.0
) -> dict[str, float]:
    """Steps the engine until the connector's own counters are so."""
    return _once(llm, counters, holds, timeout)


def _once(
    llm: Any,
    read: Callable[[], dict[str, float]],
    holds: Callable[[dict[str, float]], bool],
    timeout: float,
) -> dict[str, float]:
    until = time.monotonic() + timeout
    while not holds(found := read()) and time.monotonic() < until:
        time.sleep(0.1)
        serve(llm, [[3, 4, 5]], max_tokens=1)
    return found


def settle_saves(llm: Any, timeout: float = 20.0) -> dict[str, float]:
    """Steps the engine with tiny prompts until no more saves complete; the counters then.

    A step is what brings a worker's counters to the front end. Three rounds without news after
    the first, with a pause that a save of these sizes does not outlast.
    """
    until, quiet, last = time.monotonic() + timeout, 0, counters()
    while quiet < 3 and time.monotonic() < until:
        time.sleep(0.1)
        serve(llm, [[3, 4, 5]], max_tokens=1)
        now = counters()
        quiet = quiet + 1 if now == last else 0
        last = now
    return last


def forget_local(llm: Any) -> bool:
    """Empties the engine's own prefix cache, so that only the store can hit."""
    return bool(llm.reset_prefix_cache())


def environment(multiprocessing: bool, tensor_parallel: int = 1) -> dict[str, str]:
    """Variables for an engine process."""
    variables = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if multiprocessing else "0",
    }
    if not multiprocessing:  # else a step in this process takes six times as long
        torch = importlib.util.find_spec("torch")
        assert torch is not None and torch.origin is not None
        variables["LD_PRELOAD"] = str(Path(torch.origin).parent / "lib" / "libgomp.so.1")
    if tensor_parallel > 1:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(i) for i in range(tensor_parallel))
    return variables
