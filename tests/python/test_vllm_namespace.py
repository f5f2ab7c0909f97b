"""What KV depends on beside its tokens is in the name of its namespace, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from halves import vllm_config
from penstock.vllm import namespace

LONG_ROPE = {"rope_parameters": {"rope_type": "longrope", "long_factor": [1.0]}}


def described(change: Callable[[Any], None], **model: Any) -> dict[str, Any]:
    config = vllm_config(Path("/model"))
    config.model_config.hf_config = SimpleNamespace(to_dict=lambda: model)
    change(config)
    return namespace.describe(config, "digest", "{}", 256, {}, "0")


def nothing(config: Any) -> None:
    pass


def longer(config: Any) -> None:
    config.model_config.max_model_len *= 8


def noise(config: Any) -> None:
    config.load_config.load_format = "dummy"


def other_noise(config: Any) -> None:
    noise(config)
    config.model_config.seed = 1


def quantized(config: Any) -> None:
    config.model_config.quantization_config = {"ignore": ["lm_head"]}


def other_pixels(config: Any) -> None:
    config.model_config.multimodal_config = SimpleNamespace(
        mm_processor_kwargs={"do_rescale": False}
    )


@pytest.mark.parametrize("change", [noise, other_noise, quantized, other_pixels])
def test_what_changes_the_kv_is_another_namespace(change: Callable[[Any], None]):
    assert described(change) != described(nothing)


def test_each_seed_makes_noise_of_its_own():
    assert described(noise) != described(other_noise)


def test_the_length_counts_where_it_turns_keys_by_other_angles():
    assert described(longer) == described(nothing)
    assert described(longer, **LONG_ROPE) != described(nothing, **LONG_ROPE)
