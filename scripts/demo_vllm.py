"""The main job through a real vLLM: KV saved by one process, restored by the next.

Four engine processes serve the same prompts: without a connector; over an empty store; over the
store that the second one left; and over a store that was emptied again. Tokens must be equal,
log-probabilities within 1e-4, and the restored tokens those that can be claimed: for each prompt
the largest multiple of the chunk below its length. Prints a table and writes build/demo.json.

    python scripts/demo_vllm.py [--dir DIRECTORY] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "vllm"))

from driver import CHUNK, connector, counters, environment, open_engine, prompt, serve
from models import make_model

ROOT = Path(__file__).resolve().parents[1]
SAVED = (300, 520, 777, 1024, 1025, 1500, 2047, 2600, 3000)  # prompt lengths
OTHERS = (450, 1900)  # not served by the process that saves
TOLERANCE = 1e-4


def engine_process(model: Path, store: Path | None, out: Path, lengths: list[int]) -> None:
    """One engine: serves every prompt, one after the other, and writes what it saw."""
    transfer = connector(store) if store is not None else None
    llm = open_engine(model, transfer, num_gpu_blocks_override=512)
    serve(llm, [prompt(64, seed=1)], max_tokens=2)  # the first request warms the engine up
    begin = time.monotonic()
    served = [serve(llm, [prompt(n, seed=n)], max_tokens=16)[0] for n in lengths]
    seconds = time.monotonic() - begin
    result = {"served": served, "seconds": seconds, "counters": counters()}
    out.write_text(json.dumps(result))


def run_engine(
    work: Path, name: str, store: Path | None, lengths: tuple[int, ...] = SAVED + OTHERS
) -> dict[str, Any]:
    print(f"  {name} ...", flush=True)
    out = work / "seen.json"
    out.unlink(missing_ok=True)
    log = work / "engine.log"
    command = [
        sys.executable,
        __file__,
        "--engine",
        str(work / "model"),
        str(store or ""),
        str(out),
    ]
    command.append(",".join(map(str, lengths)))
    path = os.pathsep.join([str(ROOT / "build" / "python"), os.environ.get("PYTHONPATH", "")])
    variables = os.environ | environment(multiprocessing=True) | {"PYTHONPATH": path}
    with log.open("w") as stream:
        subprocess.run(command, env=variables, stdout=stream, stderr=subprocess.STDOUT)
    if not out.exists():
        sys.exit(f"the engine did not end well:\n{log.read_text()[-4000:]}")
    return json.loads(out.read_text())


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[bool, float]:
    """Whether two engines generated the same tokens, and how far log-probabilities are apart."""
    pairs = list(zip(one["served"], other["served"], strict=False))  # one may have served fewer
    equal = all(a["tokens"] == b["tokens"] for a, b in pairs)
    apart = [
        abs(x - y) for a, b in pairs for x, y in zip(a["logprobs"], b["logprobs"], strict=False)
    ]
    return equal, max(apart)


def raw_read_gbs(directory: Path) -> float:
    out = directory / "doctor.json"
    command = [str(ROOT / "build" / "penstock"), "doctor", "--dir", str(directory)]
    subprocess.run([*command, "--json", str(out)], stdout=subprocess.DEVNULL, check=True)
    return float(json.loads(out.read_text())["raw_read_gbs"])


def demo(work: Path) -> dict[str, Any]:
    store = work / "store"
    make_model("llama", work / "model")
    print("vLLM, a small Llama of random weights in float32; one process after the other:")
    plain = run_engine(work, "without Penstock", None)
    first = run_engine(work, "with Penstock, an empty store", store, SAVED)
    again = run_engine(work, "a new process, the same store", store)
    shutil.rmtree(store)
    emptied = run_engine(work, "a new process, the store emptied", store)

    runs = {"no connector": plain, "empty store": first, "restart": again, "emptied": emptied}
    differences = {name: difference(plain, run) for name, run in runs.items()}
    restored = {name: int(run["counters"].get("restored_tokens", 0)) for name, run in runs.items()}
    row = "  {:14} {:>8} {:>10} {:>10} {:>12} {:>9}"
    print(row.format("", "tokens", "restored", "seconds", "logprobs", "tokens"))
    print(row.format("", "served", "tokens", "", "apart by", "equal"))
    for name, run in runs.items():
        equal, apart = differences[name]
        served = sum(r["prompt"] for r in run["served"])
        seconds = f"{run['seconds']:.2f}"
        cells = (served, restored[name], seconds, f"{apart:.1e}", "yes" if equal else "NO")
        print(row.format(name, *cells))
    return {
        "tokens_equal": all(e and apart <= TOLERANCE for e, apart in differences.values()),
        "logprobs_apart": max(apart for _, apart in differences.values()),
        "restored_tokens": restored["restart"],
        "expected_restored_tokens": sum((n - 1) // CHUNK * CHUNK for n in SAVED),
        "restored_tokens_of_empty_stores": restored["empty store"] + restored["emptied"],
        "restored_bytes": int(again["counters"]["restored_bytes"]),
        "restore_gbs": again["counters"]["restored_bytes"]
        / again["counters"]["restore_seconds"]
        / 1e9,
        "raw_read_gbs": raw_read_gbs(work),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", type=Path, default=ROOT / "build", help="where the store goes")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "demo.json")
    parser.add_argument("--engine", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        model, store, out, lengths = options.engine
        place = Path(store) if store else None
        engine_process(Path(model), place, Path(out), [int(n) for n in lengths.split(",")])
        return 0
    with tempfile.TemporaryDirectory(prefix="demo-vllm-", dir=options.dir) as work:
        result = demo(Path(work))
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    good = (
        result["tokens_equal"]
        and result["restored_tokens"] == result["expected_restored_tokens"]
        and result["restored_tokens_of_empty_stores"] == 0
    )
    print(
        f"{result['restored_tokens']} of {result['expected_restored_tokens']} tokens that can be "
        f"restored were, {result['restored_bytes'] / 1e6:.1f} MB at {result['restore_gbs']:.2f} "
        f"GB/s (raw read {result['raw_read_gbs']:.2f}); written to {options.json}"
    )
    print("good" if good else "NOT as expected")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
