"""Regions of every layout of vLLM 0.26 to 0.33 against torch's own indexing, to the byte."""

from __future__ import annotations

from types import SimpleNamespace

import kv_layouts
import pytest
import torch
from penstock.vllm import memory
from penstock.vllm.layout import UnsupportedLayout


@pytest.mark.parametrize("name", kv_layouts.LAYOUTS)
def test_addresses_are_those_of_torch(name: str):
    layout = kv_layouts.make(name, "cpu")
    _, described = layout.describe()
    for (_, regions), names in zip(described.layouts, layout.names, strict=True):
        assert {region[4] for region in regions} == set(range(len(names)))
        for layer, layer_name in enumerate(names):
            own = [region for region in regions if region[4] == layer]
            for row in range(kv_layouts.BLOCKS):
                covered = [
                    base + row * stride + byte
                    for base, _, stride, page, *_ in own
                    for byte in range(page)
                ]
                assert sorted(covered) == kv_layouts.addresses(layout, layer_name, row)


@pytest.mark.parametrize("name", kv_layouts.LAYOUTS)
def test_rows_come_back_and_nothing_else_changes(name: str, tmp_path):
    kv_layouts.saved_and_loaded(kv_layouts.make(name, "cpu"), str(tmp_path))


# Their copies hold the same bytes in the same order.
ALIKE = [
    {"HND, a tensor a layer", "LBHNC", "BLHNC", "padded pages"},
    {"LBNHC", "BLNHC", "cross-layer NHD"},
    {"LHBNC", "BHLNC", "cross-layer HND"},
    {"MLA", "cross-layer MLA"},
]


def test_layouts_are_told_apart():
    by_print: dict[str, set[str]] = {}
    for name in kv_layouts.LAYOUTS:
        _, described = kv_layouts.make(name, "cpu").describe()
        by_print.setdefault(described.fingerprint, set()).add(name)
    assert [names for names in by_print.values() if len(names) > 1] == ALIKE


@pytest.mark.parametrize(
    ("one", "other"), [(min(names), other) for names in ALIKE for other in sorted(names)[1:]]
)
def test_what_one_layout_saved_another_that_is_alike_can_read(one: str, other: str, tmp_path):
    layouts = (kv_layouts.make(name, "cpu") for name in (one, other))
    kv_layouts.saved_here_loaded_there(*layouts, str(tmp_path))


def test_the_backend_is_part_of_the_fingerprint():
    layout = kv_layouts.make("LBHNC", "cpu")
    plan, plain = layout.describe()
    names = dict.fromkeys(layout.tensors, "FLASHINFER")
    other = memory.describe(plan, layout.kv_cache_config, layout.tensors, names)
    assert other.fingerprint != plain.fingerprint


def test_refuses_memory_on_several_devices_and_on_unknown_ones():
    layout = kv_layouts.make("LBHNC", "cpu")
    plan, _ = layout.describe()
    kv = layout.kv_cache_config
    elsewhere = {name: _on(tensor, "meta") for name, tensor in layout.tensors.items()}
    with pytest.raises(UnsupportedLayout, match="meta are not supported"):
        memory.describe(plan, kv, elsewhere, {})
    first, *_ = layout.tensors
    mixed = layout.tensors | {first: elsewhere[first]}
    with pytest.raises(UnsupportedLayout, match="on several devices"):
        memory.describe(plan, kv, mixed, {})


def _on(tensor: torch.Tensor, device: str) -> SimpleNamespace:
    """The same memory, claimed to be on another device."""
    return SimpleNamespace(
        device=torch.device(device),
        shape=tensor.shape,
        stride=tensor.stride,
        dtype=tensor.dtype,
        data_ptr=tensor.data_ptr,
        element_size=tensor.element_size,
    )


def test_refuses_a_cross_layer_tensor_of_other_dimensions():
    one = SimpleNamespace(kv_cache_tensors=[SimpleNamespace(shared_by=["a"])])
    with pytest.raises(UnsupportedLayout, match="its order says"):
        memory.layers_of_one_tensor(one, torch.zeros(1, 2, 3), (1, 0))
    with pytest.raises(UnsupportedLayout, match="holds 4 layers, 1 are expected"):
        memory.layers_of_one_tensor(one, torch.zeros(4, 2, 3), None)
