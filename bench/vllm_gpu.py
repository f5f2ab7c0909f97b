"""Time to the first token of a real vLLM on a GPU: no cache, Penstock, and its rivals, in one run.

Llama-3.1-8B geometry (128 KiB of KV a token), dummy weights, one request at a time, one output
token, random prompts. Each system has an engine process of its own, forked from one that has vLLM's
modules loaded. For each prompt: cold (saving on), then, after vLLM's own prefix cache was reset, a
hit. Then the KV is zeroed and a last hit has to bring it back: a time without that is of no worth.
Milliseconds; GB = 1e9 bytes.

    python bench/vllm_gpu.py [--only SYSTEM ...] [--tokens 8192 32768] [--prompts 3] [--dir DIR]
                             [--json FILE] [--graphs] [--minutes 8] [--start forkserver|spawn]
                             [--io-depth 32]

Systems for which the time does not suffice are left out, and said so.

`penstock-auto` then serves 30 requests, of each length in turn, each after a reset, and reports
median, p90 and the worst of their times over the median that `none` needs for the length.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import shutil
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vllm_systems import DEFAULT, SYSTEMS, remove_dram

ROOT = Path(__file__).resolve().parents[1]
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",  # vLLM 0.26 seeds its block hashes at random otherwise
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "INFO",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
KV_BYTES = 131072  # of a token
LIMIT_S = 120  # of one system
SHORTEST_S = 25  # with less than this left none is started
AUTO_REQUESTS = 30
WARM = 1_000_000  # the prompt that is served before what is measured
WARM_HITS = 2
SAVES_BEGIN = 1.0  # seconds, until a prompt's KV has been read out of the GPU
MOST_LOST = 1e-3  # of the sum of the KV's words, after a hit: the last token's may be another's


def kept_gb(options: argparse.Namespace) -> int:
    """Room for every prompt and one more of each length. Not much more than that: some machines
    take seconds to provide memory that is pinned."""
    return int(1.1 * (options.prompts + 1) * sum(options.tokens) * KV_BYTES / 1e9) + 2


def prompt(length: int, seed: int) -> dict[str, list[int]]:
    source = random.Random(f"{length}/{seed}")
    return {"prompt_token_ids": [source.randrange(3, 120_000) for _ in range(length)]}


def make_model(directory: Path) -> None:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA_8B))
    # Dummy weights are not read from here, but a model's identity is that of its weight files.
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")


def drop_page_cache(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Server:
    """One engine in this process."""

    def __init__(
        self,
        options: argparse.Namespace,
        model: Path,
        transfer: dict[str, Any] | None,
        gpu_memory: float = 0.7,
    ) -> None:
        from vllm import LLM

        settings: dict[str, Any] = {}
        if transfer is not None:
            settings["kv_transfer_config"] = transfer
        self.llm = LLM(
            model=str(model),
            skip_tokenizer_init=True,
            load_format="dummy",
            enforce_eager=not options.graphs,
            max_model_len=max(options.tokens) + 16,
            gpu_memory_utilization=gpu_memory,
            disable_log_stats=False,
            **settings,
        )

    def ttft_ms(self, tokens: dict[str, list[int]]) -> float:
        from vllm import SamplingParams

        parameters = SamplingParams(temperature=0, max_tokens=1, detokenize=False, ignore_eos=True)
        start = time.perf_counter()
        self.llm.generate([tokens], parameters, use_tqdm=False)
        return (time.perf_counter() - start) * 1e3

    def kv(self) -> list[Any]:
        """vLLM's KV tensors, each once."""
        caches = self.llm.collective_rpc(lambda worker: worker.model_runner.kv_caches)[0]
        return list({cache.data_ptr(): cache for cache in caches}.values())

    def wipe(self) -> None:
        """Zeroes the KV. What vLLM's own prefix cache knows is wrong from then on: forget()."""
        for cache in self.kv():
            cache.zero_()

    def kv_sum(self) -> int:
        """Of all words of 16 bits, wherever vLLM put its blocks."""
        import torch

        return sum(int(cache.view(torch.int16).sum(dtype=torch.int64)) for cache in self.kv())

    def forget(self) -> None:
        """Empties vLLM's own prefix cache; saves that are under way may take a moment."""
        until = time.monotonic() + 60
        while not self.llm.reset_prefix_cache() and time.monotonic() < until:
            self.ttft_ms(prompt(32, 0))

    def warm_hits(self, length: int) -> None:
        """The first loads of a process are slower, or done another way until they have worked."""
        for _ in range(WARM_HITS):
            self.ttft_ms(prompt(length, WARM))
            self.forget()

    def settle(self, seconds: float) -> None:
        """Steps the engine so that saves are completed and counted."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.ttft_ms(prompt(32, 1))
            time.sleep(0.05)


def serve(
    options: argparse.Namespace, name: str, work: Path, transfer: dict[str, Any] | None
) -> dict[str, Any]:
    faulthandler.dump_traceback_later(options.limit - 5)  # what it waits for, in its log
    begin = time.perf_counter()
    server = Server(options, work / "model", transfer)
    out: dict[str, Any] = {"start_s": time.perf_counter() - begin}
    computed: dict[int, int] = {}
    for length in options.tokens:
        server.forget()
        server.wipe()
        server.ttft_ms(prompt(length, WARM))
        computed[length] = server.kv_sum()
        if transfer is not None:
            server.settle(SAVES_BEGIN)  # vLLM's own connector saves with the next step
    if name == "penstock-auto":
        out |= serve_auto(server, options)
    else:
        for length in options.tokens:
            cold = []
            for i in range(options.prompts):
                cold.append(server.ttft_ms(prompt(length, i)))
                if name == "vllm-fs":
                    # With its memory full of what is not on the disk yet, 0.26 cannot store, and
                    # ends when the request has: a KeyError in prepare_store.
                    server.settle(options.settle * length * KV_BYTES / 1e9)
            local = server.ttft_ms(prompt(length, options.prompts - 1))
            hits: list[float] = []
            raw: list[float] = []
            if transfer is not None:
                server.settle(options.settle * length * options.prompts * KV_BYTES / 1e9 + 1)
                server.forget()
                server.warm_hits(options.tokens[0])
                drop_page_cache(work)
                end = int(counters().get("used_bytes gds", 0))  # of what these prompts saved last
                for i in range(options.prompts):
                    hits.append(server.ttft_ms(prompt(length, i)))
                    if name == "penstock-nvme":
                        before = (options.prompts - i) * length * KV_BYTES
                        raw.append(raw_read_ms(work, length, end - before, options.io_depth))
            out[str(length)] = {"cold_ms": cold, "gpu_hit_ms": local, "hit_ms": hits}
            if transfer is not None:
                server.forget()
                server.wipe()
                server.ttft_ms(prompt(length, WARM))
                out[str(length)]["kv_of_computed"] = server.kv_sum() / computed[length]
            if raw:
                out[str(length)]["raw_read_ms"] = statistics.median(raw)
                out[str(length)]["hit_over_raw"] = statistics.median(
                    [hit / read for hit, read in zip(hits, raw, strict=True)]
                )
    out["counters"] = counters()
    return out


def raw_read_ms(work: Path, length: int, begin: int, depth: int) -> float:
    """The drive alone, O_DIRECT, `depth` requests of 1 MiB in flight: a prompt's bytes, from
    `begin` on in the pool, which fills in order."""
    from penstock import _core

    pool, size = str(work / "penstock/pool.data"), length * KV_BYTES
    return size / _core.raw_read(pool, size, max(0, begin), depth) / 1e6


def serve_auto(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Lengths in turn; each prompt comes back after vLLM has forgotten it."""
    known = [(n, i) for i in range(options.prompts) for n in options.tokens]
    cold = [server.ttft_ms(prompt(n, i)) for n, i in known]
    server.settle(options.settle * sum(n for n, _ in known) * KV_BYTES / 1e9 + 1)
    hits = []
    for r in range(AUTO_REQUESTS):
        server.forget()
        hits.append(server.ttft_ms(prompt(*known[r % len(known)])))
    out: dict[str, Any] = {}
    for length in options.tokens:
        out[str(length)] = {
            "cold_ms": [t for t, (n, _) in zip(cold, known, strict=True) if n == length],
            "hit_ms": [t for r, t in enumerate(hits) if known[r % len(known)][0] == length],
        }
    return out


def counters() -> dict[str, float]:
    from prometheus_client import REGISTRY

    found: dict[str, float] = {}
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if not sample.name.startswith("vllm:penstock_") or sample.name.endswith("_created"):
                continue
            labels = [v for k, v in sample.labels.items() if k not in ("model_name", "engine")]
            found[" ".join([sample.name.removeprefix("vllm:penstock_"), *labels])] = sample.value
    return found


def engine_process(options: argparse.Namespace, name: str, work: Path, out: Path) -> None:
    faulthandler.enable()
    with out.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    transfer, variables = SYSTEMS[name](work, kept_gb(options))
    os.environ.update(variables)
    out.write_text(json.dumps(serve(options, name, work, transfer)))
    sys.stdout.flush()
    os._exit(0)  # LMCache leaves threads that do not end


def run_system(context: Any, options: argparse.Namespace, work: Path, name: str) -> dict[str, Any]:
    out = work / "seen.json"
    log = out.with_suffix(".log")
    out.unlink(missing_ok=True)
    log.write_text("")  # for a process that does not come to write one
    process = context.Process(target=engine_process, args=(options, name, work, out))
    process.start()
    process.join(options.limit)
    late = process.exitcode is None
    if late:
        process.kill()
        process.join()
    for left in ("penstock", "fs", "lmcache"):
        shutil.rmtree(work / left, ignore_errors=True)
    remove_dram()
    if late:
        return {"failed": f"no end after {options.limit:.0f} s", "log": log.read_text()[-3000:]}
    if not out.exists():
        return {"failed": "the engine did not end well", "log": log.read_text()[-3000:]}
    result = json.loads(out.read_text())
    result["said"] = [line for line in log.read_text().splitlines() if "penstock" in line.lower()]
    return result


def is_lost(seen: dict[str, Any]) -> bool:
    """Of one length: the last hit did not bring back what had been computed."""
    return abs(seen.get("kv_of_computed", 1) - 1) > MOST_LOST


def is_good(name: str, result: dict[str, Any], tokens: list[int]) -> bool:
    if "failed" in result:
        return False
    ours = name.startswith("penstock")
    return not (ours and any(is_lost(result[str(length)]) for length in tokens))


def show(name: str, result: dict[str, Any], tokens: list[int]) -> None:
    if "failed" in result:
        print(f"{name:15} {result['failed']}\n{result['log']}", flush=True)
        return
    cells = []
    for length in tokens:
        seen = result[str(length)]
        hits = sorted(seen["hit_ms"])
        text = f"{length}: cold {statistics.median(seen['cold_ms']):7.1f}"
        if hits:
            p90 = hits[min(len(hits) - 1, int(0.9 * len(hits)))]
            text += f"  hit {statistics.median(hits):7.1f} (p90 {p90:.1f}, worst {hits[-1]:.1f})"
        if is_lost(seen):
            text += f", KV NOT RESTORED ({seen['kv_of_computed']:.4f} of its sum)"
        if "raw_read_ms" in seen:
            text += f", raw read {seen['raw_read_ms']:.1f}"
        cells.append(text)
    print(f"{name:16} {'   '.join(cells)}   [start {result['start_s']:.0f} s]", flush=True)
    for line in result["said"]:
        if "WARNING" in line or "ERROR" in line:
            print(f"    {line}", flush=True)


def show_auto(results: dict[str, Any], tokens: list[int]) -> None:
    """Requests under `load_policy: auto` over those without a connector."""
    auto, none = results.get("penstock-auto", {}), results.get("none", {})
    if str(tokens[0]) not in auto or str(tokens[0]) not in none:
        return
    ratios = sorted(
        hit / statistics.median(none[str(length)]["cold_ms"])
        for length in tokens
        for hit in auto[str(length)]["hit_ms"]
    )
    p90 = ratios[int(0.9 * len(ratios))]
    auto["of_none"] = {"median": statistics.median(ratios), "p90": p90, "worst": ratios[-1]}
    print(f"    auto over none: {auto['of_none']}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SYSTEMS,
        default=DEFAULT,
        metavar="SYSTEM",
        help=f"of {', '.join(SYSTEMS)}; default: {', '.join(DEFAULT)}",
    )
    parser.add_argument("--tokens", nargs="+", type=int, default=[8192, 32768])
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=ROOT / "build", help="on the drive to measure")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-vllm.json")
    parser.add_argument(
        "--settle", type=float, default=0.8, help="seconds a GB that saves are waited for"
    )
    parser.add_argument("--graphs", action="store_true", help="with CUDA graphs, not eager")
    parser.add_argument("--minutes", type=float, default=8, help="for all systems together")
    parser.add_argument("--io-depth", type=int, default=32, help="Penstock's requests in flight")
    parser.add_argument(
        "--start",
        choices=["forkserver", "spawn"],
        default="forkserver",
        help="spawn: each engine loads vLLM's modules anew",
    )
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    os.environ.update(ENVIRONMENT)
    os.environ["PENSTOCK_IO_DEPTH"] = str(options.io_depth)
    if str(ROOT / "build/python") not in sys.path:
        sys.path.append(str(ROOT / "build/python"))
    context = multiprocessing.get_context(options.start)
    if options.start == "forkserver":
        context.set_forkserver_preload(["vllm.entrypoints.llm"])
    results: dict[str, Any] = {}
    options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-vllm-", dir=options.dir) as directory:
        work = Path(directory)
        make_model(work / "model")
        for name in options.only:
            options.limit = min(LIMIT_S, until - time.monotonic())
            if options.limit < SHORTEST_S:
                print(f"{name:15} left out: {options.minutes:g} minutes are over", flush=True)
                continue
            results[name] = run_system(context, options, work, name)
            show(name, results[name], options.tokens)
            if name == "penstock-auto":
                show_auto(results, options.tokens)
            options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(is_good(n, r, options.tokens) for n, r in results.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
