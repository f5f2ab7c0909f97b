"""One engine process of test_vllm_gpu.py: serves prompts twice, writes what it saw as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from driver import connector, counters, open_engine, prompt, serve, settle_saves


def run(order: dict[str, Any], out: Path, log: Path) -> None:
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    transfer = connector(Path(order["store"]), **order["settings"]) if order["store"] else None
    # FlashInfer would compile its kernel of DeepSeek's rope at the first start, for which not every
    # installation has the headers.
    compilation: dict[str, Any] = {"custom_ops": ["-rotary_embedding"]}
    if not order["eager"]:
        compilation["cudagraph_capture_sizes"] = [1, 2]
    llm = open_engine(
        Path(order["model"]),
        transfer,
        dtype="bfloat16",
        block_size=order["block_size"],
        enforce_eager=order["eager"],
        compilation_config=compilation,
        kv_cache_memory_bytes=1 << 30,
    )
    prompts = [prompt(n, seed=n) for n in order["lengths"]]
    first = [serve(llm, [ids], max_tokens=16)[0] for ids in prompts]
    again = [serve(llm, [ids], max_tokens=16)[0] for ids in prompts]  # hits the GPU's own cache
    seen = settle_saves(llm) if transfer else counters()
    out.write_text(json.dumps({"first": first, "again": again, "counters": seen}))
