"""What the connector costs a cold prompt: the same engine with and without it.

Two engine processes at a time would disturb each other, so one runs while the other is stopped
(SIGSTOP), and prompts alternate between them. Reports the median time to the first token of each,
the difference, and the CPU seconds of the process that saves.

    python bench/vllm_overhead.py [--tokens 2048] [--rounds 20] [--dir DIRECTORY] [--json FILE]
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

from driver import connector, counters, open_engine, prompt, serve
from models import make_model
from paused_engine import ROOT, PausedEngine, answer_requests, cpu_seconds

WARM_UP = 3  # prompts
REST = 0.3  # seconds; saves go on after the answer, and end before the other engine runs


def engine_process(model: Path, store: str) -> None:
    def make() -> Any:
        transfer = connector(Path(store)) if store else None
        llm = open_engine(model, transfer, num_gpu_blocks_override=2048)

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            ids = prompt(request["tokens"], seed=request["seed"])
            begin = time.perf_counter()
            serve(llm, [ids], max_tokens=1)
            seconds = time.perf_counter() - begin
            return {"seconds": seconds, "cpu": cpu_seconds(), "counters": counters()}

        return answer

    answer_requests(make)


def measure(work: Path, tokens: int, rounds: int) -> dict[str, Any]:
    model = make_model("llama", work / "model")
    engines = {
        name: PausedEngine([__file__, "--engine", str(model), store], work / f"{name}.log")
        for name, store in {"none": "", "penstock": str(work / "s")}.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    last: dict[str, Any] = {}
    for turn in range(WARM_UP + rounds):
        order = list(engines) if turn % 2 == 0 else list(reversed(engines))
        for name in order:
            last[name] = engines[name].serve({"seed": 1000 + turn, "tokens": tokens}, REST)
            if turn >= WARM_UP:
                seconds[name].append(last[name]["seconds"])
    for engine in engines.values():
        engine.close()
    none, ours = (statistics.median(seconds[name]) for name in ("none", "penstock"))
    return {
        "tokens": tokens,
        "rounds": rounds,
        "none_ms": none * 1e3,
        "penstock_ms": ours * 1e3,
        "cost_ms": (ours - none) * 1e3,
        "cost_percent": (ours / none - 1) * 100,
        "none_cpu_s": last["none"]["cpu"],
        "penstock_cpu_s": last["penstock"]["cpu"],
        "saved_bytes": last["penstock"]["counters"].get("saved_bytes", 0),
        "good": ours - none <= max(0.02 * none, 0.005),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dir", type=Path, default=ROOT / "build")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "vllm_overhead.json")
    parser.add_argument("--engine", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        engine_process(Path(options.engine[0]), options.engine[1])
        return 0
    with tempfile.TemporaryDirectory(prefix="vllm-overhead-", dir=options.dir) as work:
        result = measure(Path(work), options.tokens, options.rounds)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if result["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
