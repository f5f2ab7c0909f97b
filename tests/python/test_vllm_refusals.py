"""What the connector refuses at start, each with a sentence that says why."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from penstock.vllm import connector, hooks
from penstock.vllm.layout import UnsupportedLayout


def refuse(
    groups: int = 1, use_async: bool = True, hash_block: int = 16, v2: bool = False, **settings: Any
) -> None:
    parallel = {"pipeline_parallel_size": 1} | settings.pop("parallel", {})
    engine = SimpleNamespace(
        parallel_config=SimpleNamespace(**parallel),
        speculative_config=settings.pop("speculative", None),
        use_v2_model_runner=v2,
        model_config=SimpleNamespace(enable_sleep_mode=settings.pop("sleeps", False)),
        scheduler_config=SimpleNamespace(async_scheduling=settings.pop("overlapping", False)),
        cache_config=SimpleNamespace(**{"cache_dtype": "auto", **settings}),
    )
    config = SimpleNamespace(use_async=use_async)
    group = SimpleNamespace(block_size=16)
    plan = SimpleNamespace(groups=[group] * groups, hash_block_size=hash_block)
    connector._refuse_unsupported(engine, config, plan)


def test_a_plain_engine_is_welcome():
    refuse()
    refuse(overlapping=True)
    refuse(use_async=False)
    refuse(v2=True)
    refuse(hash_block=8)
    refuse(calculate_kv_scales=True)  # of no effect: nothing is quantized


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"parallel": {"pipeline_parallel_size": 2}}, "pipeline"),
        ({"parallel": {"decode_context_parallel_size": 2}}, "decode context"),
        ({"parallel": {"prefill_context_parallel_size": 2}}, "prefill context"),
        ({"speculative": object()}, "speculative"),
        ({"sleeps": True}, "sleep mode"),
        ({"calculate_kv_scales": True, "cache_dtype": "fp8"}, "use scales from the checkpoint"),
        ({"v2": True, "hash_block": 8}, "VLLM_USE_V2_MODEL_RUNNER=0"),
        ({"overlapping": True, "use_async": False}, "--no-async-scheduling"),
        ({"groups": 2, "use_async": False}, "Set use_async: true"),
    ],
)
def test_refuses_with_the_reason(settings: dict[str, Any], sentence: str):
    with pytest.raises(UnsupportedLayout, match=sentence):
        refuse(**settings)


def test_several_groups_need_an_engine_that_survives_a_failed_load():
    if hooks.supports_groups():
        refuse(groups=2)
    else:
        with pytest.raises(UnsupportedLayout, match=r"needs vLLM 0\.32"):
            refuse(groups=2)


def test_what_is_configured_and_not_used_is_said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(connector.logger, "warning", lambda text, *a: lines.append(text % a))
    connector._warn_of_unused(SimpleNamespace(backend=["local", "gds"]))
    assert lines == []
    connector._warn_of_unused(SimpleNamespace(backend=["gds", "my.module:Mine"]))
    assert lines == ["penstock: the vLLM connector goes on without backend my.module:Mine"]
