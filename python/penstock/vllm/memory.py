"""The KV memory of one rank: where it lies, in the core's words, and what fingerprints it.

Made once, when vLLM hands over its tensors. Holds no tensor; vLLM keeps them for the engine's life.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.spaces import canonical
from penstock.vllm.layout import Plan, UnsupportedLayout, regions_of_group

if TYPE_CHECKING:
    import torch

Layout = tuple[int, list[tuple[int, int, int, int, int]]]  # rows of a chunk, regions


@dataclass(frozen=True)
class Memory:
    device: str  # "cpu" or "cuda:N"
    layouts: list[Layout]  # by group
    copy_bytes: tuple[int, ...]  # of one chunk, by group
    fingerprint: str  # canonical JSON; equal on ranks and machines whose pages mean the same
    layers: dict[str, int]  # index of each layer in its group
    stream: Callable[[], int | None]  # handle of the stream that the engine works on; CPU: None


def describe(
    plan: Plan,
    kv_cache_config: Any,
    kv_caches: Mapping[str, torch.Tensor],
    backends: Mapping[str, str],
) -> Memory:
    """`backends`: names of the attention backends by layer, as far as they are known."""
    layouts, sizes, prints = [], [], []
    for group, spec in zip(plan.groups, kv_cache_config.kv_cache_groups, strict=True):
        regions, layers = regions_of_group(plan, group, spec, kv_caches)
        layouts.append((group.rows_per_chunk, [region.entry() for region in regions]))
        sizes.append(group.rows_per_chunk * sum(region.page_bytes for region in regions))
        for layer in layers:
            layer["backend"] = backends.get(layer["layer"], "")
        prints.append(
            {
                "kind": group.kind,
                "block_size": group.block_size,
                "window": group.window,
                "layers": layers,
            }
        )
    device = _device_of(plan, kv_caches)
    about = {"device": device.type, "groups": prints}
    if device.type == "cpu":
        about["isa"] = _instruction_set()
    return Memory(
        device="cpu" if device.type == "cpu" else f"cuda:{_ordinal(device)}",
        layouts=layouts,
        copy_bytes=tuple(sizes),
        fingerprint=canonical(about),
        layers={name: i for group in plan.groups for i, name in enumerate(group.layer_names)},
        stream=_stream_of(device),
    )


def layers_of_one_tensor(
    kv_cache_config: Any, tensor: torch.Tensor, stride_order: tuple[int, ...] | None
) -> dict[str, torch.Tensor]:
    """Views of each layer in the one tensor of all layers that vLLM before 0.29 may make.

    The tensor has the physical order of its dimensions; `stride_order` leads there from the
    logical one, in which layers are first. None: they are the same.
    """
    order = stride_order or tuple(range(tensor.dim()))
    if sorted(order) != list(range(tensor.dim())):
        raise UnsupportedLayout(
            f"the cross-layer KV cache has {tensor.dim()} dimensions, its order says {order}"
        )
    logical = tensor.permute([order.index(i) for i in range(tensor.dim())])
    names = [entry.shared_by for entry in kv_cache_config.kv_cache_tensors]
    if logical.shape[0] != len(names):
        raise UnsupportedLayout(
            f"the cross-layer KV cache holds {logical.shape[0]} layers, {len(names)} are expected"
        )
    return {name: logical[i] for i, shared in enumerate(names) for name in shared}


def _device_of(plan: Plan, kv_caches: Mapping[str, torch.Tensor]) -> torch.device:
    devices = {kv_caches[name].device for group in plan.groups for name in group.layer_names}
    if len(devices) != 1:
        raise UnsupportedLayout(
            f"the KV cache lies on several devices: {sorted(map(str, devices))}"
        )
    (device,) = devices
    if device.type not in ("cpu", "cuda"):
        raise UnsupportedLayout(
            f"KV caches on {device.type} are not supported, on cpu and cuda are"
        )
    return device


def _ordinal(device: torch.device) -> int:
    import torch

    return device.index if device.index is not None else torch.cuda.current_device()


def _stream_of(device: torch.device) -> Callable[[], int | None]:
    if device.type == "cpu":
        return lambda: None
    import torch

    ordinal = _ordinal(device)
    return lambda: torch.cuda.current_stream(ordinal).cuda_stream


def _instruction_set() -> str:
    """CPU attention packs a block for the widest instructions that it finds."""
    import torch

    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.backends.cpu.get_cpu_capability() + ("+AMX" if amx else "")
