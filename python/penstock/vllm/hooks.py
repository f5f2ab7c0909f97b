"""The hooks of vLLM's KVConnectorBase_V1 that exist, by version, from 0.26 to 0.33.

A test compares the table with the installed vLLM by inspect.signature, so that a new version's
changes are seen before they are met at run time. At run time only features are asked for, never
version numbers, apart from one warning.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OLDEST, NEWEST = (0, 26), (0, 33)
CHECKED = (0, 32)  # the version that the whole table was compared with


@dataclass(frozen=True)
class Hook:
    """Parameters after self or cls, and the versions that have it."""

    parameters: tuple[str, ...] = ()
    since: tuple[int, int] = OLDEST
    until: tuple[int, int] = (99, 0)  # the first version without it
    is_property: bool = False
    is_abstract: bool = False


HOOKS: dict[str, Hook] = {
    # properties
    "role": Hook(is_property=True),
    "requires_kv_delivery": Hook(is_property=True, since=(0, 27)),
    "supports_divergent_local_hybrid_hits": Hook(is_property=True, since=(0, 28)),
    "prefer_cross_layer_blocks": Hook(is_property=True, until=(0, 29)),
    # worker
    "get_mem_pool_context": Hook(since=(0, 29)),
    "bind_connector_metadata": Hook(("connector_metadata",)),
    "clear_connector_metadata": Hook(),
    "has_connector_metadata": Hook(),
    "register_kv_caches": Hook(("kv_caches",)),
    "register_cross_layers_kv_cache": Hook(("kv_cache", "attn_backend"), until=(0, 29)),
    "set_host_xfer_buffer_ops": Hook(("copy_operation",)),
    "finish_forward": Hook(since=(0, 29)),
    "reset_capture_state": Hook(since=(0, 29)),
    "handle_preemptions": Hook(("kv_connector_metadata",)),
    "start_load_kv": Hook(("forward_context", "kwargs"), is_abstract=True),
    "wait_for_layer_load": Hook(("layer_name",), is_abstract=True),
    "save_kv_layer": Hook(("layer_name", "kv_layer", "attn_metadata", "kwargs"), is_abstract=True),
    "wait_for_save": Hook(is_abstract=True),
    "get_finished": Hook(("finished_req_ids",)),
    "get_transfer_results": Hook(("finished_req_ids",), since=(0, 29)),
    "get_block_ids_with_load_errors": Hook(),
    "shutdown": Hook(),
    "get_kv_connector_stats": Hook(),
    "get_kv_connector_kv_cache_events": Hook(),
    "get_handshake_metadata": Hook(),
    "build_connector_worker_meta": Hook(),
    # scheduler
    "bind_kv_cache_manager": Hook(("kv_cache_manager",), since=(0, 29)),
    "bind_gpu_block_pool": Hook(("gpu_block_pool",)),
    "get_loaded_kv_cache_group_ids": Hook(("request",), since=(0, 29)),
    "get_num_new_matched_tokens": Hook(("request", "num_computed_tokens"), is_abstract=True),
    "get_external_cache_hit_sources": Hook(("request", "num_external_tokens"), since=(0, 29)),
    "update_state_after_alloc": Hook(
        ("request", "blocks", "num_external_tokens"), is_abstract=True
    ),
    "build_connector_meta": Hook(("scheduler_output",), is_abstract=True),
    "on_new_request": Hook(("request",)),
    "update_connector_output": Hook(("connector_output",)),
    "request_finished": Hook(("request", "block_ids")),
    "register_finished_partial_tail": Hook(
        ("request", "block_ids", "partial_tail_offloads"), since=(0, 29)
    ),
    "take_events": Hook(),
    "has_pending_block_frees": Hook(since=(0, 29)),
    "has_pending_push_work": Hook(),
    "get_required_kvcache_layout": Hook(("vllm_config",)),
    "requires_piecewise_for_cudagraph": Hook(("extra_config",)),
    "get_finished_count": Hook(),
    "build_kv_connector_stats": Hook(("data",)),
    "set_xfer_handshake_metadata": Hook(("metadata",)),
    "set_xfer_handshake_metadata_pp_aware": Hook(("metadata",)),
    "build_prom_metrics": Hook(
        ("vllm_config", "metric_types", "labelnames", "per_engine_labelvalues")
    ),
    "reset_cache": Hook(),
}


def expected(version: tuple[int, int]) -> dict[str, Hook]:
    return {name: hook for name, hook in HOOKS.items() if hook.since <= version < hook.until}


def differences(base: type, version: tuple[int, int]) -> Iterator[str]:
    """Sentences on how a connector base class differs from the table."""
    table, found = expected(version), dict(_members(base))
    for name in sorted(table.keys() - found.keys()):
        yield f"{name} is gone"
    for name in sorted(found.keys() - table.keys()):
        yield f"{name}{found[name].parameters} is new"
    for name in sorted(found.keys() & table.keys()):
        hook = table[name]
        if (found[name].parameters, found[name].is_property, found[name].is_abstract) != (
            hook.parameters,
            hook.is_property,
            hook.is_abstract,
        ):
            yield f"{name}: {found[name]} instead of {hook}"


def _members(base: type) -> Iterator[tuple[str, Hook]]:
    for name, member in vars(base).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield name, Hook(is_property=True)
            continue
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.isfunction(function):
            parameters = tuple(inspect.signature(function).parameters)[1:]
            abstract = getattr(function, "__isabstractmethod__", False)
            yield name, Hook(parameters, is_abstract=abstract)


def installed_version() -> tuple[int, int]:
    import vllm

    major, minor = vllm.__version__.split(".")[:2]
    return int(major), int(minor)


def warn_if_unknown(logger: Any) -> None:
    version = installed_version()
    if not OLDEST <= version <= NEWEST:
        logger.warning(
            "penstock knows vLLM from %s to %s, this is %s",
            *(".".join(map(str, v)) for v in (OLDEST, NEWEST, version)),
        )


def supports_groups() -> bool:
    """Whether a failed load of a model with several groups can be reported, and its tables read."""
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.outputs import KVConnectorOutput

    return (
        "failed_recving" in KVConnectorOutput.__dataclass_fields__
        and "kv_connector_block_state" in SchedulerOutput.__dataclass_fields__
    )


def has_hit_sources() -> bool:
    import importlib.util

    return importlib.util.find_spec("vllm.v1.metrics.cache_hit_source") is not None
