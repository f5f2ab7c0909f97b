"""PenstockConnector: the class that vLLM makes, once in the scheduler and once in each worker.

It only checks the configuration and hands vLLM's hooks to the half that they are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    SupportsHMA,
)
from vllm.logger import init_logger

from penstock import _core
from penstock.config import entries_of
from penstock.vllm import hooks, memory
from penstock.vllm.layout import Plan, UnsupportedLayout, make_plan
from penstock.vllm.messages import Handshake, StepMetadata, WorkerReport
from penstock.vllm.scheduler import SchedulerHalf
from penstock.vllm.stats import PenstockPromMetrics, PenstockStats
from penstock.vllm.worker import Rank, Results, WorkerHalf

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.forward_context import ForwardContext
    from vllm.v1.attention.backend import AttentionBackend, AttentionMetadata
    from vllm.v1.core.kv_cache_manager import KVCacheBlocks
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

logger = init_logger("vllm.penstock")


class PenstockConnector(KVConnectorBase_V1, SupportsHMA):
    if hooks.has_hit_sources():
        from vllm.v1.metrics.cache_hit_source import CacheHitSource

        _cache_hit_source = CacheHitSource.DISK

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        hooks.warn_if_unknown(logger)
        transfer = self._kv_transfer_config
        config = _core.Config.from_entries(entries_of(transfer.kv_connector_extra_config))
        block_size = vllm_config.cache_config.block_size
        self._plan = plan = make_plan(kv_cache_config, config.chunk_size, block_size)
        _refuse_unsupported(vllm_config, config, plan)
        # A miss in flight is no error: vLLM's default would end the request. The scheduler reads
        # the policy after it has made this object.
        transfer.kv_load_failure_policy = "recompute"
        replicas = _replicas(vllm_config, kv_cache_config, plan)
        self._scheduler: SchedulerHalf | None = None
        self._worker: WorkerHalf | None = None
        if role is KVConnectorRole.SCHEDULER:
            _warn_of_unused(config)
            if plan.chunk != config.chunk_size:
                logger.info("penstock: chunks have %d tokens (a multiple of %s)", plan.chunk,
                            [group.block_size for group in plan.groups])  # fmt: skip
            shards = vllm_config.parallel_config.tensor_parallel_size // replicas
            self._scheduler = SchedulerHalf(vllm_config, config, plan, shards)
        else:
            rank = Rank.of(vllm_config.parallel_config.rank, replicas)
            overlapping = vllm_config.scheduler_config.async_scheduling
            self._worker = WorkerHalf(config, plan, rank, overlapping)
        self._results = Results()

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # a save that is dropped is a miss later

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        config = _core.Config.from_entries(entries_of(extra_config))
        return bool(config.enable_layerwise and not config.use_async)

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> PenstockStats:
        return PenstockStats(data=data) if data is not None else PenstockStats()

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type, type],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> PenstockPromMetrics:
        return PenstockPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def shutdown(self) -> None:
        half = self._scheduler or self._worker
        if half is not None:
            half.shutdown()

    # -- worker ----------------------------------------------------------------------------------

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        assert self._worker is not None
        layers = self._vllm_config.compilation_config.static_forward_context
        backends = {
            name: layers[name].get_attn_backend().get_name()
            for name in kv_caches
            if hasattr(layers.get(name), "get_attn_backend")
        }
        self._worker.register(
            memory.describe(self._plan, self._kv_cache_config, kv_caches, backends)
        )

    def register_cross_layers_kv_cache(
        self, kv_cache: torch.Tensor, attn_backend: type[AttentionBackend]
    ) -> None:
        """vLLM before 0.29, where another connector beside this one prefers it."""
        try:
            order = attn_backend.get_kv_cache_stride_order(include_num_layers_dimension=True)
        except (AttributeError, NotImplementedError):
            order = None
        self.register_kv_caches(memory.layers_of_one_tensor(self._kv_cache_config, kv_cache, order))

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        assert self._worker is not None
        return self._worker.handshake

    def handle_preemptions(self, kv_connector_metadata: KVConnectorMetadata) -> None:
        assert self._worker is not None and isinstance(kv_connector_metadata, StepMetadata)
        self._worker.fence(kv_connector_metadata)

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        assert self._worker is not None
        self._worker.start_loads(self._step(), forward_context)

    def wait_for_layer_load(self, layer_name: str) -> None:
        assert self._worker is not None
        self._worker.wait_for_layer(layer_name)

    def save_kv_layer(
        self,
        layer_name: str,
        kv_layer: torch.Tensor,
        attn_metadata: AttentionMetadata,
        **kwargs: Any,
    ) -> None:
        return  # whole chunks are saved after the step

    def wait_for_save(self) -> None:
        assert self._worker is not None
        self._worker.submit_saves(self._step())

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        assert self._worker is not None
        self._results = self._worker.results(finished_req_ids)
        return None, self._results.received or None

    def get_transfer_results(self, finished_req_ids: set[str]) -> Any:
        results = super().get_transfer_results(finished_req_ids)
        results.failed_recving = self._results.failed
        return results

    def get_block_ids_with_load_errors(self) -> set[int]:
        invalid, self._results.invalid_blocks = self._results.invalid_blocks, set()
        return invalid

    def get_kv_connector_stats(self) -> PenstockStats | None:
        # vLLM before 0.32 drops those of a step without output, as empty steps under a load are.
        if self._worker is None or not self._step().samples:
            return None
        return self._worker.take_stats()

    def build_connector_worker_meta(self) -> WorkerReport | None:
        assert self._worker is not None
        return self._worker.take_report()

    def _step(self) -> StepMetadata:
        step = self._get_connector_metadata()
        assert isinstance(step, StepMetadata)
        return step

    # -- scheduler -------------------------------------------------------------------------------

    def set_xfer_handshake_metadata_pp_aware(
        self, metadata: dict[tuple[int, int], KVConnectorHandshakeMetadata]
    ) -> None:
        assert self._scheduler is not None
        self._scheduler.set_handshake(
            {rank: m for rank, m in metadata.items() if isinstance(m, Handshake)}
        )

    def set_xfer_handshake_metadata(
        self, metadata: dict[int, KVConnectorHandshakeMetadata]
    ) -> None:
        self.set_xfer_handshake_metadata_pp_aware({(0, r): m for r, m in metadata.items()})

    def on_new_request(self, request: Request) -> None:
        assert self._scheduler is not None
        self._scheduler.on_new_request(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        assert self._scheduler is not None
        return self._scheduler.matched(request, num_computed_tokens)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        assert self._scheduler is not None
        self._scheduler.allocated(request, blocks.get_block_ids(), num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        assert self._scheduler is not None
        return self._scheduler.build_step(scheduler_output)

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        assert self._scheduler is not None
        self._scheduler.take_output(connector_output)

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        assert self._scheduler is not None
        self._scheduler.finished(request)
        return False, None

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished(request, [])

    def take_events(self) -> Iterable[KVCacheEvent]:
        return ()

    def reset_cache(self) -> bool:
        assert self._scheduler is not None
        return self._scheduler.reset_cache()


def _warn_of_unused(config: Any) -> None:
    unused = [f"backend {name}" for name in config.backend if ":" in name]
    if unused:
        logger.warning("penstock: the vLLM connector goes on without %s", ", ".join(unused))


def _refuse_unsupported(vllm_config: VllmConfig, config: Any, plan: Plan) -> None:
    parallel = vllm_config.parallel_config
    if parallel.pipeline_parallel_size > 1:
        raise UnsupportedLayout("Penstock does not support pipeline parallelism yet")
    if getattr(parallel, "decode_context_parallel_size", 1) > 1:
        raise UnsupportedLayout("Penstock does not support decode context parallelism yet")
    if getattr(parallel, "prefill_context_parallel_size", 1) > 1:
        raise UnsupportedLayout("Penstock does not support prefill context parallelism yet")
    if vllm_config.speculative_config is not None:
        raise UnsupportedLayout("Penstock does not support speculative decoding yet")
    if getattr(vllm_config.model_config, "enable_sleep_mode", False):
        raise UnsupportedLayout(
            "Penstock does not support sleep mode yet: it takes the KV cache's memory away, and "
            "nothing tells a connector before"
        )
    cache = vllm_config.cache_config
    if getattr(cache, "calculate_kv_scales", False) and cache.cache_dtype != "auto":
        raise UnsupportedLayout(
            "calculate_kv_scales makes the scales of a quantized KV cache from the first prompt of "
            "a process, so no other process can read it; use scales from the checkpoint"
        )
    fine_hashes = any(group.block_size != plan.hash_block_size for group in plan.groups)
    if fine_hashes and getattr(vllm_config, "use_v2_model_runner", False):
        # Hits may then end inside a block, which that runner copies before it tells a connector
        # that blocks have new owners: a save of the old ones could read the new ones' bytes.
        raise UnsupportedLayout(
            f"block hashes of {plan.hash_block_size} tokens, shorter than a block, do not work "
            "with the V2 model runner yet: set VLLM_USE_V2_MODEL_RUNNER=0"
        )
    if not config.use_async and vllm_config.scheduler_config.async_scheduling:
        raise UnsupportedLayout(
            "use_async: false does not work with asynchronous scheduling: when a load fails, vLLM "
            "keeps the token of a step that is under way already. Set use_async: true, or "
            "start vLLM with --no-async-scheduling"
        )
    if len(plan.groups) > 1:
        if not config.use_async:
            raise UnsupportedLayout(
                "use_async: false does not work with a model of several KV cache groups: "
                "vLLM ends when a synchronous load fails there. Set use_async: true"
            )
        if not hooks.supports_groups():
            raise UnsupportedLayout(
                "a model of several KV cache groups needs vLLM 0.32 or later: before it, "
                "a load that fails ends the engine"
            )


def _replicas(vllm_config: VllmConfig, kv_cache_config: KVCacheConfig, plan: Plan) -> int:
    """How many ranks in a row hold the same KV."""
    replicas = getattr(kv_cache_config, "kv_tp_replicas", None)
    if replicas is not None:
        return replicas
    all_mla = all(group.kind == "MLAAttentionSpec" for group in plan.groups)
    return vllm_config.parallel_config.tensor_parallel_size if all_mla else 1
