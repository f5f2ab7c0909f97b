"""Penstock keeps an LLM engine's KV cache on NVMe and brings it back::

    from penstock import Config, Engine
    engine = Engine.open(Config.from_entries([("cache_dir", ["/mnt/nvme/kv"], False)]), layouts)

The vLLM connector is penstock.vllm; nothing here imports vLLM or torch.
"""

from penstock._core import Config, Engine, JobResult, Lookup, PenstockError

__all__ = ["Config", "Engine", "JobResult", "Lookup", "PenstockError"]
