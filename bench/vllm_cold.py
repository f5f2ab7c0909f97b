"""What saving costs a cold prompt on a GPU: vLLM with Penstock and without a connector, in turn.

Two engine processes share the GPU; one runs while the other is stopped (SIGSTOP), and prompts
alternate between them, so that no drift of the machine counts for one of them. An engine is stopped
as soon as it has answered: it goes on saving beside its next prompt, as when prompts follow each
other. Llama-3.1-8B geometry, as in bench/vllm_gpu.py.

    python bench/vllm_cold.py [--tokens 8192 32768] [--rounds 8] [--dir DIRECTORY] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "vllm"))

import vllm_gpu
from paused_engine import ROOT, PausedEngine, answer_requests

ENGINES = ("none", "penstock-both")
WARM_UP = 2  # prompts of each length
GPU_MEMORY = 0.4  # of it, for each engine
LAST_REST = 3.0  # seconds, for what is saved last and for the counters


def engine_process(name: str, work: Path, tokens: list[int], gigabytes: int) -> None:
    def make() -> Any:
        os.environ.update(vllm_gpu.ENVIRONMENT)
        transfer, variables = vllm_gpu.SYSTEMS[name](work, gigabytes)
        os.environ.update(variables)
        options = argparse.Namespace(tokens=tokens, graphs=False)
        server = vllm_gpu.Server(options, work / "model", transfer, GPU_MEMORY)

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            if "rest" in request:
                server.settle(request["rest"])
                return vllm_gpu.counters()
            return {"ms": server.ttft_ms(vllm_gpu.prompt(request["tokens"], request["seed"]))}

        return answer

    answer_requests(make)


def measure(engines: dict[str, PausedEngine], tokens: int, rounds: int) -> dict[str, Any]:
    seen: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(WARM_UP + rounds):
        order = list(engines) if turn % 2 == 0 else list(reversed(engines))
        for name in order:
            ms = engines[name].serve({"tokens": tokens, "seed": turn})["ms"]
            if turn >= WARM_UP:
                seen[name].append(ms)
    none, ours = (seen[name] for name in ENGINES)
    more = [b - a for a, b in zip(none, ours, strict=True)]
    return {
        "none_ms": none,
        "penstock_ms": ours,
        "cost_percent": (statistics.median(ours) / statistics.median(none) - 1) * 100,
        "cost_of_pairs_percent": statistics.median(more) / statistics.median(none) * 100,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", nargs="+", type=int, default=[8192, 32768])
    parser.add_argument("--rounds", type=int, default=8, help="prompts of each length and engine")
    parser.add_argument("--dir", type=Path, default=ROOT / "build", help="on the drive to save to")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-vllm-cold.json")
    parser.add_argument("--engine", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        name, work, gigabytes = options.engine
        engine_process(name, Path(work), options.tokens, int(gigabytes))
        return 0
    results: dict[str, Any] = {}
    options.dir.mkdir(parents=True, exist_ok=True)
    options.prompts = options.rounds + WARM_UP
    lengths, gigabytes = [str(n) for n in options.tokens], str(vllm_gpu.kept_gb(options))
    with tempfile.TemporaryDirectory(prefix="vllm-cold-", dir=options.dir) as directory:
        work = Path(directory)
        vllm_gpu.make_model(work / "model")
        try:
            engines: dict[str, PausedEngine] = {}
            for name in ENGINES:
                begin = time.perf_counter()
                command = [__file__, "--engine", name, directory, gigabytes, "--tokens", *lengths]
                engines[name] = PausedEngine(command, work / f"{name}.log")
                print(f"{name} is up after {time.perf_counter() - begin:.0f} s", flush=True)
            for tokens in options.tokens:
                results[str(tokens)] = measure(engines, tokens, options.rounds)
                print(tokens, json.dumps(results[str(tokens)]), flush=True)
            results["counters"] = engines["penstock-both"].serve({"rest": LAST_REST})
            for engine in engines.values():
                engine.close()
        finally:
            vllm_gpu.remove_dram()
    chunks = "save_chunks_total "
    print({key: n for key, n in results["counters"].items() if key.startswith(chunks)})
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
