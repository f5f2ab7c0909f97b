"""What compression does to the time to the first token of a prompt that is on a drive.

One vLLM engine for each of raw, zstd and lz4, each with a store of its own; one runs while the
others are stopped (SIGSTOP). Prompts are windows of a text that do not overlap, as their KV is what
is packed. Each is stored once by each engine, then restored in turn, after vLLM forgot it, always
from the drive. Tokens must be equal in all three. bf16.

    python bench/vllm_compression.py --model DIR --text FILE... [--tokens 4096] [--prompts 10]
        [--rounds 3] [--dir DIRECTORY] [--json FILE]

A prompt has one token more than --tokens, a multiple of the chunk: all but the last are restored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "vllm"))

from driver import (
    CHUNK,
    connector,
    forget_local,
    open_engine,
    published,
    serve,
    settle_saves,
)
from paused_engine import ROOT, PausedEngine, answer_requests, cpu_seconds
from penstock import _core

SETTINGS: dict[str, dict[str, Any]] = {
    "raw": {"enable_compression": False},
    "zstd": {"enable_compression": True, "compression_algo": "zstd"},
    "lz4": {"enable_compression": True, "compression_algo": "lz4"},
}
WARM_UP = 2  # prompts
COMPARED = 16  # tokens


def engine_process(model: Path, store: str, name: str, tokens: int) -> None:
    def make() -> Any:
        llm = open_engine(
            model,
            connector(Path(store), max_write_gb_per_day=0, **SETTINGS[name]),
            dtype="bfloat16",
            block_size=128,
            max_model_len=tokens + 2 * COMPARED,
            kv_cache_memory_bytes=1 << 30,
        )

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            if not forget_local(llm):
                sys.exit("vLLM did not forget its prefix cache")
            begin, cpu = time.perf_counter(), cpu_seconds()
            seen = serve(llm, [request["ids"]], max_tokens=request["max_tokens"])[0]
            seen |= {"seconds": time.perf_counter() - begin, "cpu": cpu_seconds() - cpu}
            if request["settle"]:
                seen["counters"] = {**settle_saves(llm), **published()}
            return seen

        return answer

    answer_requests(make)


def ask(engine: PausedEngine, ids: list[int], max_tokens: int = 1, settle: bool = False) -> Any:
    return engine.serve({"ids": ids, "max_tokens": max_tokens, "settle": settle})


def windows(model: Path, text: list[Path], tokens: int, count: int) -> list[list[int]]:
    from transformers import AutoTokenizer

    joined = b"\n".join(path.read_bytes() for path in text).decode()
    ids = AutoTokenizer.from_pretrained(model)(joined).input_ids
    if len(ids) < count * (tokens + 1):
        sys.exit(f"the text has {len(ids)} tokens, {count * (tokens + 1)} are needed")
    return [ids[i * (tokens + 1) : (i + 1) * (tokens + 1)] for i in range(count)]


def in_turn(names: list[str], turn: int) -> list[str]:
    return names[turn % len(names) :] + names[: turn % len(names)]


def summary(loads: list[dict[str, Any]], stored: list[dict[str, Any]]) -> dict[str, Any]:
    """`stored` with the prompts for warming up, which are first and counted in the bytes."""
    milliseconds = sorted(load["seconds"] * 1e3 for load in loads)
    last = stored[-1]["counters"]
    before = last.get('penstock_compressed_bytes_total{when="before"}', 0)
    after = last.get('penstock_compressed_bytes_total{when="after"}', 0)
    return {
        "ttft_ms": statistics.median(milliseconds),
        "ttft_p90_ms": milliseconds[int(0.9 * len(milliseconds))],
        "cpu_ms": statistics.median(load["cpu"] * 1e3 for load in loads),
        "computed_ttft_ms": statistics.median(s["seconds"] * 1e3 for s in stored[WARM_UP:]),
        "bytes_a_prompt": last["saved_bytes"] / len(stored),
        "ratio": before / after if after else 1,
    }


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    prompts = windows(options.model, options.text, options.tokens, options.prompts + WARM_UP)
    names = list(SETTINGS)
    engines = {
        name: PausedEngine(
            [__file__, "--engine", str(options.model), str(work / name), name, str(options.tokens)],
            work / f"{name}.log",
        )
        for name in names
    }
    stored: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    loads: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    different, unlike_computed, misses = 0, 0, 0
    for turn, ids in enumerate(prompts):
        for name in in_turn(names, turn):
            stored[name].append(ask(engines[name], ids, COMPARED if turn < WARM_UP else 1, True))
        print(f"stored {turn + 1} of {len(prompts)} prompts", file=sys.stderr, flush=True)
    for turn, ids in enumerate(prompts):  # also what warms the restoring way up
        tokens = {}
        for name in in_turn(names, turn):
            seen = ask(engines[name], ids, COMPARED)
            tokens[name] = seen["tokens"]
            misses += seen["cached"] != options.tokens
        different += any(tokens[name] != tokens["raw"] for name in names)
        unlike_computed += tokens["raw"][0] != stored["raw"][turn]["tokens"][0]
    for turn in range(options.rounds * options.prompts):
        for name in in_turn(names, turn):
            seen = ask(engines[name], prompts[WARM_UP + turn % options.prompts])
            misses += seen["cached"] != options.tokens
            loads[name].append(seen)
    pool = work / "raw" / "pool.data"
    drive = _core.raw_read(str(pool), min(pool.stat().st_size, 1 << 30))
    for engine in engines.values():
        engine.close()
    results = {name: summary(loads[name], stored[name]) for name in names}
    for result in results.values():
        result["of_raw"] = result["ttft_ms"] / results["raw"]["ttft_ms"]
    return {
        "model": options.model.name,
        "tokens": options.tokens,
        "prompts": options.prompts,
        "loads": len(loads["raw"]),
        "results": results,
        "raw_read_gbs": drive,  # O_DIRECT, the pool of the first engine
        "prompts_with_different_tokens": different,
        "prompts_with_another_first_token_than_computed": unlike_computed,
        "not_wholly_restored": misses,
        "good": different == 0 and misses == 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a checkpoint that vLLM and transformers read")
    parser.add_argument("--text", type=Path, nargs="+", default=[])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is restored")
    parser.add_argument("--dir", type=Path, default=ROOT / "build", help="where the stores go")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "vllm_compression.json")
    parser.add_argument("--engine", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        model, store, name, tokens = options.engine
        engine_process(Path(model), store, name, int(tokens))
        return 0
    if options.model is None or not options.text or options.tokens % CHUNK:
        parser.error(f"--model and --text are needed, and --tokens a multiple of {CHUNK}")
    with tempfile.TemporaryDirectory(prefix="vllm-compression-", dir=options.dir) as work:
        result = measure(Path(work), options)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
