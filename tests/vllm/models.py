"""Writes small models of random weights: a config.json and a model.safetensors each.

`load_format=dummy` will not do: it fills weights within 1e-3, and the output then hardly depends
on the KV cache, so that wrong KV still gives the right tokens. With a standard deviation of 0.05
every token depends on all the ones before it.

    python tests/vllm/models.py llama DIRECTORY [--seed N]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

VOCABULARY = 1024
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "initializer_range": 0.05,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def _llama() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        **_COMMON,
    )


def _mla() -> Any:
    from transformers import DeepseekV2Config

    return DeepseekV2Config(
        hidden_size=256,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        kv_lora_rank=512,
        q_lora_rank=None,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        first_k_dense_replace=3,
        n_routed_experts=2,
        n_shared_experts=1,
        num_experts_per_tok=1,
        # As DeepSeek's own. With plain rope vLLM's CPU build rotates one token otherwise than many,
        # and a decode does not agree with a prefill, without any connector.
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
        **_COMMON,
    )


def _gemma() -> Any:
    from transformers import Gemma3TextConfig

    return Gemma3TextConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        sliding_window=256,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        **_COMMON,
    )


def _mamba() -> Any:
    from transformers import Lfm2Config

    return Lfm2Config(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "conv", "conv", "full_attention"],
        conv_dim=256,
        conv_L_cache=3,
        block_dim=256,
        block_ff_dim=512,
        block_auto_adjust_ff_dim=False,
        **_COMMON,
    )


_KINDS = {"llama": _llama, "mla": _mla, "gemma": _gemma, "recurrent": _mamba}


def make_model(kind: str, directory: Path, seed: int = 0) -> Path:
    """Writes the model if it is not there yet, and returns its directory."""
    if (directory / "model.safetensors").exists():
        return directory
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_KINDS[kind](), dtype=torch.float32)
    model.save_pretrained(directory)
    return directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(_KINDS))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(make_model(options.kind, options.directory, options.seed))


if __name__ == "__main__":
    main()
