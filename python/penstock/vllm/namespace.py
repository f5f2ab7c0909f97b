"""The namespace: a digest of everything besides the tokens that must match for KV to be reusable.

The worker half contributes the layout fingerprint, the scheduler half all else; the hash seed is
valid only once the first request is there. The description is canonical JSON, stored beside the
digest for people to read.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from penstock.spaces import canonical

FORMAT_VERSION = 1
_MAX_HEADER = 100_000_000  # bytes; safetensors' own limit
_SAMPLE = 256  # bytes of each tensor
_FILE_SAMPLES = 256  # of a weight file in another format


class NoNamespace(RuntimeError):
    """KV of this engine cannot be named for ever; the message says why. The connector idles."""


def model_digest(model_config: Any) -> str:
    """Digest of the model's configuration and of its weight files.

    Names, sizes and headers alone cannot tell a model from its fine-tune, so a few bytes of every
    tensor are hashed too: some thousand small reads, and no change of weights goes unseen unless
    it leaves those bytes of every tensor as they were.
    """
    directory = _model_directory(model_config)
    digest = hashlib.sha256(canonical(_config_of(model_config)).encode())
    files = sorted(_weight_files(directory))
    if not files:
        raise NoNamespace(f"no weight files are found in {directory}, so the model has no identity")
    for file in files:
        digest.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            for part in _samples(stream, file):
                digest.update(part)
    return digest.hexdigest()


def describe(
    vllm_config: Any,
    model: str,
    layout: str,
    chunk: int,
    hashes: Mapping[str, str],
    reset: str,
) -> dict[str, Any]:
    """Everything that must match. `model`: the model's digest. `reset`: another one each time that
    the cache is emptied."""
    import vllm

    model_config, parallel = vllm_config.model_config, vllm_config.parallel_config
    settings = {
        "quantization_config": getattr(model_config, "quantization_config", None),
        # The hash of an image has those of its request only.
        "mm_processor_kwargs": getattr(model_config.multimodal_config, "mm_processor_kwargs", None),
        # Beyond what a model was trained for, LongRoPE turns every key by other angles.
        "max_model_len": model_config.max_model_len if _has_long_rope(model_config) else None,
        # Noise of a seed, whatever the weight files hold.
        "weights": f"dummy, seed {model_config.seed}"
        if vllm_config.load_config.load_format == "dummy"
        else None,
    }
    return {
        "format": FORMAT_VERSION,
        "engine": "vllm",
        "about": {"model": str(model_config.model)},
        "model": model,
        "dtype": str(model_config.dtype),
        "quantization": str(model_config.quantization),
        "kv_cache_dtype": str(vllm_config.cache_config.cache_dtype),
        "layout": json.loads(layout),
        "chunk": chunk,
        "tp": parallel.tensor_parallel_size,
        "pp": parallel.pipeline_parallel_size,
        "dcp": getattr(parallel, "decode_context_parallel_size", 1),
        "hash": dict(hashes),
        # The block hash is a hash of a pickle, whose bytes are not promised across versions.
        "vllm": ".".join(vllm.__version__.split(".")[:2]),
        "epoch": reset,
        **{name: str(value) for name, value in settings.items() if value is not None},
    }


def hash_identity(vllm_config: Any, block_hash: bytes) -> dict[str, str]:
    """How block hashes are made; refuses those that another process cannot make again."""
    from vllm.v1.core import kv_cache_utils

    algorithm = vllm_config.cache_config.prefix_caching_hash_algo
    if len(block_hash) != 32:
        raise NoNamespace(
            f"block hashes made by {algorithm} have {len(block_hash)} bytes, 32 are needed: "
            "use --prefix-caching-hash-algo sha256"
        )
    get_seed = getattr(kv_cache_utils, "get_none_hash_seed", None)
    if get_seed is None and "PYTHONHASHSEED" not in os.environ:
        raise NoNamespace(
            "this vLLM seeds its block hashes at random in each process: set PYTHONHASHSEED=0"
        )
    seed = get_seed() if get_seed is not None else os.environ["PYTHONHASHSEED"]
    root = bytes(kv_cache_utils.NONE_HASH)
    return {"algorithm": str(algorithm), "seed": seed, "root": root.hex()}


def _config_of(model_config: Any) -> dict[str, Any]:
    """The model's configuration as vLLM uses it: overrides and rope scaling included."""
    config = dict(model_config.hf_config.to_dict())
    for key in ("transformers_version", "_name_or_path"):  # say nothing about the KV
        config.pop(key, None)
    return config


def _has_long_rope(model_config: Any) -> bool:
    return '"longrope"' in canonical(_config_of(model_config))


def _model_directory(model_config: Any) -> Path:
    path = Path(model_config.model)
    if path.is_dir():
        return path
    if path.is_file():  # one GGUF file
        return path.parent
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model_config.model, revision=model_config.revision, local_files_only=True
            )
        )
    except Exception as error:  # whatever a hub client raises, the model is not here
        raise NoNamespace(f"the files of {model_config.model} are not found here") from error


def _weight_files(directory: Path) -> Iterator[Path]:
    for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf"):
        yield from directory.glob(pattern)


def _samples(stream: Any, file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        for i in range(_FILE_SAMPLES):
            stream.seek(i * size // _FILE_SAMPLES)
            yield stream.read(_SAMPLE)
        return
    head = stream.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else _MAX_HEADER + 1
    if length > min(_MAX_HEADER, size):
        raise NoNamespace(f"{file} is not a safetensors file")
    header = stream.read(length)
    yield header
    try:
        tensors = json.loads(header)
        offsets = sorted(t["data_offsets"] for n, t in tensors.items() if n != "__metadata__")
    except (ValueError, TypeError, KeyError) as error:
        raise NoNamespace(f"{file} has no readable safetensors header") from error
    for begin, end in offsets:
        stream.seek(8 + length + (begin + max(begin, end - _SAMPLE)) // 2)
        yield stream.read(min(_SAMPLE, end - begin))
