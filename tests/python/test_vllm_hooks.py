"""python/penstock/vllm/hooks.py: the table of hooks against the installed vLLM."""

from __future__ import annotations

import inspect

import pytest
from penstock.vllm import PenstockConnector, hooks
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1


def test_the_installed_version_has_the_hooks_of_the_table():
    version = hooks.installed_version()
    assert hooks.OLDEST <= version <= hooks.NEWEST
    assert list(hooks.differences(KVConnectorBase_V1, version)) == []


@pytest.mark.parametrize("minor", range(hooks.OLDEST[1], hooks.NEWEST[1] + 1))
def test_every_abstract_hook_of_a_version_is_there(minor: int):
    for name, hook in hooks.expected((0, minor)).items():
        if hook.is_abstract:
            assert name in vars(PenstockConnector), name


def test_overrides_take_the_parameters_of_the_base():
    for name, member in vars(PenstockConnector).items():
        hook = hooks.HOOKS.get(name)
        if hook is None or hook.is_property:
            continue
        function = member.__func__ if isinstance(member, classmethod) else member
        assert tuple(inspect.signature(function).parameters)[1:] == hook.parameters, name


def test_a_change_of_the_base_is_seen():
    class Changed(KVConnectorBase_V1):
        pass

    members = dict(vars(KVConnectorBase_V1))
    members.pop("get_finished")
    members["wait_for_save"] = lambda self, extra: None
    members["brand_new"] = lambda self: None
    changed = type("Changed", (), members)
    found = list(hooks.differences(changed, hooks.installed_version()))
    assert [sentence.split("(")[0].split(":")[0].split(" ")[0] for sentence in found] == [
        "get_finished",
        "brand_new",
        "wait_for_save",
    ]


def test_old_versions_lack_what_came_later():
    assert "get_transfer_results" not in hooks.expected((0, 26))
    assert "register_cross_layers_kv_cache" in hooks.expected((0, 28))
    assert "register_cross_layers_kv_cache" not in hooks.expected((0, 29))
