"""Both halves of the connector over one store, and the steps between them, without an engine.

On any device: the same rules are tested with KV in the host's memory and in a GPU's.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from penstock import Config
from penstock.config import flatten
from penstock.vllm import memory
from penstock.vllm.layout import make_plan
from penstock.vllm.scheduler import SchedulerHalf
from penstock.vllm.worker import Rank, Results, WorkerHalf
from vllm import SamplingParams
from vllm.config import CUDAGraphMode
from vllm.utils.hashing import sha256
from vllm.v1.core import kv_cache_utils
from vllm.v1.core.sched.output import NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheGroupSpec
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request

kv_cache_utils.init_none_hash(sha256)  # as an engine does before its first request

BLOCK, CHUNK, BLOCKS, LAYERS = 16, 64, 64, 2
COPY = LAYERS * 2 * CHUNK * 64 * 4  # bytes of a chunk


def write_model(directory: Path, value: int = 1) -> None:
    """A safetensors file of one tensor, whose size and header do not depend on `value`."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [4096], "data_offsets": [0, 4096]}})
    data = struct.pack("<Q", len(header)) + header.encode() + bytes([value]) * 4096
    (directory / "model.safetensors").write_bytes(data)


class Pair:
    """A scheduler half and a worker half over one store, and the steps between them."""

    def __init__(
        self, work: Path, device: str = "cpu", overlapping: bool = False, **settings: Any
    ) -> None:
        model = work / "model"
        if not model.exists():
            model.mkdir()
            write_model(model)
        (work / "store").mkdir(mode=0o700, exist_ok=True)
        spec = FullAttentionSpec(
            block_size=BLOCK, num_kv_heads=2, head_size=32, dtype=torch.float32
        )
        names = [f"layer.{i}" for i in range(LAYERS)]
        kv = SimpleNamespace(
            num_blocks=BLOCKS,
            kv_cache_groups=[KVCacheGroupSpec(names, spec)],
            hash_block_size=BLOCK,
        )
        defaults = {"cache_dir": str(work / "store"), "chunk_size": CHUNK, "min_free_gb": 0}
        defaults["load_policy"] = "always"
        config = Config.from_entries(flatten({**defaults, "max_cache_size_gb": 1, **settings}))
        self.plan = make_plan(kv, config.chunk_size, BLOCK)
        shape = (BLOCKS, 2, BLOCK, 64)
        self.caches = {n: torch.zeros(shape, dtype=torch.float32, device=device) for n in names}
        self.worker = WorkerHalf(config, self.plan, Rank.of(0, 1), overlapping)
        self.worker.register(memory.describe(self.plan, kv, self.caches, {}))
        self.scheduler = SchedulerHalf(vllm_config(model, overlapping), config, self.plan, shards=1)
        assert self.worker.handshake is not None
        self.scheduler.set_handshake({(0, 0): self.worker.handshake})

    def close(self) -> None:
        self.worker.shutdown()
        self.scheduler.shutdown()

    def add(self, name: str, tokens: Sequence[int], **extra: Any) -> Request:
        request = new_request(name, tokens, **extra)
        self.scheduler.on_new_request(request)
        return request

    def matched(self, request: Request, computed: int = 0) -> tuple[int | None, bool]:
        """The answer once the index has given it."""
        for _ in range(1000):
            answer = self.scheduler.matched(request, computed)
            if answer[0] is not None:
                return answer
            self.step()
        raise AssertionError("no answer")

    def step(
        self,
        *new: tuple[Request, list[int], int, int],
        ended: set[str] | None = None,
        mode: CUDAGraphMode = CUDAGraphMode.NONE,
        at_layer: Callable[[str], None] = lambda name: None,
        over: Sequence[Request] = (),
    ) -> Results:
        """One step. `new`: requests with block ids, computed tokens and scheduled tokens.
        `at_layer`: what a pass does with each layer; one that is FULL asks for none. `over`:
        requests that end with it, which vLLM says before it hands over the step's report."""
        output = step_output(*new)
        meta = self.scheduler.build_step(output)
        self.worker.fence(meta)
        context = SimpleNamespace(attn_metadata={}, cudagraph_runtime_mode=mode)
        self.worker.start_loads(meta, context)
        for name in self.caches:
            if mode is not CUDAGraphMode.FULL:
                self.worker.wait_for_layer(name)
            at_layer(name)
        self.worker.submit_saves(meta)
        results = self.worker.results(ended or set())
        for request in over:
            self.scheduler.finished(request)
        return self.report(results)

    def report(self, results: Results) -> Results:
        self.scheduler.take_output(
            KVConnectorOutput(
                finished_recving=results.received,
                kv_connector_worker_meta=self.worker.take_report(),
            )
        )
        return results

    def compute_and_save(self, request: Request, blocks: list[int]) -> None:
        for i, cache in enumerate(self.caches.values()):
            for block in blocks:
                cache[block] = torch.rand(cache[block].shape, device=cache.device) + i
        self.step((request, blocks, 0, request.num_tokens))
        self.wait_for_saves()

    def wait_for_saves(self) -> None:
        while self.worker._saves:
            assert self.worker._engine.wait(10)
            self.step()

    def wait_for_load(self, ended: set[str] | None = None) -> Results:
        """Steps until something is reported."""
        for _ in range(100):
            results = self.step(ended=ended)
            ended = None
            if results.received:
                return results
            self.worker._engine.wait(1)
        raise AssertionError("the load was not reported")


def vllm_config(model: Path, overlapping: bool = False) -> Any:
    hf_config = SimpleNamespace(to_dict=lambda: {"hidden_size": 64})
    return SimpleNamespace(
        model_config=SimpleNamespace(
            model=str(model),
            revision=None,
            hf_config=hf_config,
            dtype=torch.float32,
            quantization=None,
            multimodal_config=None,
            max_model_len=1024,
            seed=0,
        ),
        load_config=SimpleNamespace(load_format="auto"),
        scheduler_config=SimpleNamespace(async_scheduling=overlapping),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        cache_config=SimpleNamespace(
            cache_dtype="auto", prefix_caching_hash_algo="sha256", enable_prefix_caching=True
        ),
    )


def new_request(name: str, tokens: Sequence[int], **extra: Any) -> Request:
    hasher = kv_cache_utils.get_request_block_hasher(BLOCK, sha256)
    params = SamplingParams(max_tokens=50, **extra)
    return Request(name, list(tokens), params, None, block_hasher=hasher)


def step_output(*new: tuple[Request, list[int], int, int]) -> SchedulerOutput:
    output = SchedulerOutput.make_empty()
    for request, blocks, computed, scheduled in new:
        data = NewRequestData.from_request(request, (blocks,))
        data.num_computed_tokens = computed
        output.scheduled_new_reqs.append(data)
        output.num_scheduled_tokens[request.request_id] = scheduled
    return output


TOKENS = list(range(3, 203))  # 200: three chunks of 64, and 8 more
TABLE = list(range(1, 14))
OTHER_TABLE = list(range(20, 33))


def warm(pair: Pair) -> None:
    pair.compute_and_save(pair.add("first", TOKENS), TABLE)


def start_load(pair: Pair, name: str, blocks: list[int] = OTHER_TABLE) -> Request:
    request = pair.add(name, TOKENS)
    assert pair.matched(request) == (192, True)
    pair.scheduler.allocated(request, (blocks,), 192)
    pair.step()
    return request
