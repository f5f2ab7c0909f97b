"""Runs the code of the user's document on any device; the import lines are all that is changed.

On a host without a GPU two more words change: the device of the connector and of the backend.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import user_document
from penstock.compat import lmcache
from penstock.compat.lmcache import LMCacheEngineBuilder, LMCacheEngineConfig

ENGINE_NAME = "vllm-instance"
LAYERS, HEADS, SIZE, PAGE, PAGES, CHUNK = 3, 2, 64, 16, 64, 256
TOKENS = list(range(256))
DTYPE = torch.float16


def run(code: str, known: dict[str, Any], device: str) -> dict[str, Any]:
    """The names that are defined when `code` has run with the names that are `known`."""
    code = code.replace("from lmcache.", "from penstock.compat.lmcache.")
    if device == "cpu":
        code = code.replace('f"cuda:{local_rank}"', '"cpu"').replace('"cuda:0"', '"cpu"')
    names = dict(known)
    exec(compile(code, "user_document", "exec"), names)
    return names


def write(directory: Path, yaml: str, places: dict[str, str]) -> Path:
    """A configuration of the document with places that exist here."""
    for theirs, ours in places.items():
        assert theirs in yaml
        yaml = yaml.replace(theirs, ours)
    path = directory / "lmcache_config_gds.yaml"
    path.write_text(yaml, encoding="utf-8")
    return path


def build_engine(config: LMCacheEngineConfig, device: str, monkeypatch: Any) -> Any:
    """With the document's _init_lmcache_engine."""
    if device == "cpu":
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "set_device", lambda ordinal: None)
    known = {name: getattr(lmcache, name) for name in lmcache.__all__}
    known |= {
        "torch": torch,
        "ENGINE_NAME": ENGINE_NAME,
        "parallel_config": SimpleNamespace(rank=0, world_size=1),
        "model_config": SimpleNamespace(model="meta-llama/Llama-2-70b"),
        "tpg": SimpleNamespace(broadcast=None, broadcast_object=None),
        "num_layer": LAYERS,
        "use_mla": False,
        "chunk_size": CHUNK,
        "num_kv_head": HEADS,
        "head_size": SIZE,
        "kv_dtype": DTYPE,
    }
    init = run(user_document.INITIALIZATION, known, device)["_init_lmcache_engine"]
    return init(config, None)


def kv_caches(device: str) -> dict[str, torch.Tensor]:
    shape = (2, PAGES, PAGE, HEADS, SIZE)
    return {f"layer.{i}": torch.randn(shape, dtype=DTYPE).to(device) for i in range(LAYERS)}


def kv_at(kvcaches: dict[str, torch.Tensor], slots: torch.Tensor) -> torch.Tensor:
    return torch.stack([kv[:, slots // PAGE, slots % PAGE] for kv in kvcaches.values()]).cpu()


class FakeCuFile:
    """The document's cuFile, over files: it is an imagined library, real cuFile has other calls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.opened: list[str] = []

    def open(self, cache_dir: str) -> int:
        self.opened.append(cache_dir)
        return len(self.opened)

    def read(self, fd: int, address: int, path: str, size: int) -> int:
        data = self._file(path).read_bytes()[:size]
        _copy(address, data, len(data))
        return len(data)

    def write(self, fd: int, address: int, path: str, size: int) -> int:
        data = ctypes.create_string_buffer(size)
        _copy(data, address, size)
        file = self._file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.raw)
        return size

    def _file(self, path: str) -> Path:
        return self._directory / path.lstrip("/")


def _copy(to: Any, what: Any, size: int) -> None:
    """Between host memory and memory of either kind, by whatever the address is of."""
    if not torch.cuda.is_available():
        ctypes.memmove(to, what, size)
        return
    torch.cuda.synchronize()  # makes the GPU's context this thread's
    held = [
        ctypes.create_string_buffer(x, len(x)) if isinstance(x, bytes) else x for x in (to, what)
    ]
    places = [ctypes.c_uint64(x if isinstance(x, int) else ctypes.addressof(x)) for x in held]
    assert ctypes.CDLL("libcuda.so.1").cuMemcpy(*places, ctypes.c_size_t(size)) == 0


def provide_backend(cufile: FakeCuFile, device: str, monkeypatch: Any) -> type:
    """The document's CustomGDSBackend, importable as document:CustomGDSBackend."""
    import time

    known = {"torch": torch, "time": time, "cuFile": cufile}
    names = run(user_document.CUSTOM_BACKEND, known, device)
    module = ModuleType("document")
    module.CustomGDSBackend = names["CustomGDSBackend"]
    monkeypatch.setitem(sys.modules, "document", module)
    return module.CustomGDSBackend


# -- what must come of it ------------------------------------------------------------------------


def case_engine(directory: Path, device: str, monkeypatch: Any) -> None:
    """Configuration, initialization, store, retrieve_layer, monitoring: in the document's order."""
    places = {
        "/mnt/nvme/llm_cache": str(directory / "cache"),
        "max_cache_size_gb: 256": "max_cache_size_gb: 1",
    }
    path = write(directory, user_document.CONFIGURATION, places)
    config = LMCacheEngineConfig.from_file(path)
    assert config.backend == "gds" and config.gds_config.cache_dir == str(directory / "cache")
    engine = build_engine(config, device, monkeypatch)
    lmcache.LMCStatsMonitor.GetOrCreate().get_interval_stats()  # an interval of its own
    try:
        kvcaches = kv_caches(device)
        there = torch.arange(256)
        here = torch.arange(256).view(16, 16).flip(0).reshape(-1) + 512
        expected = kv_at(kvcaches, there)
        engine.store(TOKENS, kvcaches=kvcaches, slot_mapping=there)
        assert engine.lookup(TOKENS) == 256
        token_mask = torch.ones(256, dtype=torch.bool)
        retriever = engine.retrieve_layer(TOKENS, token_mask, kvcaches, here.to(device))
        next(retriever)
        for layer in range(LAYERS):
            next(retriever)
            assert torch.equal(kv_at(kvcaches, here)[layer], expected[layer])
        assert next(retriever).all()
        assert engine.retrieve(TOKENS, kvcaches=kvcaches, slot_mapping=here).all()
        assert torch.equal(kv_at(kvcaches, here), expected)
        run(user_document.MONITORING, {}, device)
    finally:
        LMCacheEngineBuilder.destroy(ENGINE_NAME)


def case_custom_backend(directory: Path, device: str, monkeypatch: Any) -> None:
    """The document's backend behind gds: what it kept comes back into a store that is new."""
    cufile = FakeCuFile(directory / "backend")
    provide_backend(cufile, device, monkeypatch)
    slots, stats = torch.arange(256), {}
    expected = None
    for store in ("first", "second"):
        config = LMCacheEngineConfig.from_dict(
            {
                "backend": ["gds", "document:CustomGDSBackend"],
                "cache_dir": str(directory / store),
                "max_cache_size_gb": 1,
                "chunk_size": CHUNK,
            }
        )
        engine = build_engine(config, device, monkeypatch)
        try:
            kvcaches = kv_caches(device)
            if expected is None:
                expected = kv_at(kvcaches, slots)
                assert not engine.retrieve(TOKENS, None, kvcaches, slots).any()
                engine.store(TOKENS, None, kvcaches, slots)
            else:
                assert engine.retrieve(TOKENS, None, kvcaches, slots).all()
                assert torch.equal(kv_at(kvcaches, slots), expected)
                stats = engine.backend_stats()["document:CustomGDSBackend"]
        finally:
            LMCacheEngineBuilder.destroy(ENGINE_NAME)
    assert cufile.opened == [str(directory / store) for store in ("first", "second")]
    assert stats["throughput_gbs"] > 0 and stats["hit_rate"] == 0.5  # of 1 hit, as it counts
