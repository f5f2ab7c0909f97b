"""What the connector costs a cold prompt: the same engine with and without it.

Two engine processes at a time would disturb each other, so one runs while the other is stopped
(SIGSTOP), and prompts alternate between them. Reports the median time to the first token of each,
the difference, and the CPU seconds of the process that saves.

    python bench/vllm_overhead.py [--tokens 2048] [--rounds 20] [--dir DIRECTORY] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "vllm"))

from driver import connector, counters, environment, open_engine, prompt, serve
from models import make_model

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3  # prompts


def engine_process(model: Path, store: str) -> None:
    """Reads "<seed> <tokens>" lines, serves a prompt for each, answers with one line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to stdout too
    transfer = connector(Path(store)) if store else None
    llm = open_engine(model, transfer, num_gpu_blocks_override=2048)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        seed, tokens = map(int, line.split())
        ids = prompt(tokens, seed=seed)
        begin = time.perf_counter()
        serve(llm, [ids], max_tokens=1)
        seconds = time.perf_counter() - begin
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        answer = {"seconds": seconds, "cpu": cpu, "counters": counters()}
        print(json.dumps(answer), file=answers, flush=True)


class EngineProcess:
    def __init__(self, model: Path, store: str) -> None:
        path = os.pathsep.join([str(ROOT / "build" / "python"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--engine", str(model), store],
            env=os.environ | environment(multiprocessing=False) | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        if self._out.readline() != "ready\n":
            sys.exit("the engine did not start; run it by hand with --engine to see why")
        self._process.send_signal(signal.SIGSTOP)

    def serve(self, seed: int, tokens: int) -> dict[str, Any]:
        self._process.send_signal(signal.SIGCONT)
        print(seed, tokens, file=self._in, flush=True)
        answer = json.loads(self._out.readline())
        time.sleep(0.3)  # saves go on after the answer; let them end before the other one runs
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._in.close()
        self._process.wait(timeout=60)


def measure(work: Path, tokens: int, rounds: int) -> dict[str, Any]:
    model = make_model("llama", work / "model")
    engines = {"none": EngineProcess(model, ""), "penstock": EngineProcess(model, str(work / "s"))}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    last: dict[str, Any] = {}
    for turn in range(WARM_UP + rounds):
        order = list(engines) if turn % 2 == 0 else list(reversed(engines))
        for name in order:
            last[name] = engines[name].serve(1000 + turn, tokens)
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
