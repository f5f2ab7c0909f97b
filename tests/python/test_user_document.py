"""The code of the user's document over the real core, KV in the host's memory. See also
tests/gpu/test_compat_gpu.py and docs/user-document.md.
"""

from __future__ import annotations

import document_cases
import pytest
import user_document
from penstock.compat.lmcache import LMCacheEngineConfig


def test_configuration_initialization_retrieval_and_monitoring(tmp_path, monkeypatch, capsys):
    document_cases.case_engine(tmp_path, "cpu", monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    names = [line.partition(":")[0] for line in printed]
    assert names == [
        "GDS Read Throughput",
        "GDS Read Latency",
        "Cache Hit Rate",
        "DMA Utilization",
    ]
    assert printed[2] == "Cache Hit Rate: 100.0%"


def test_the_custom_backend(tmp_path, monkeypatch):
    document_cases.case_custom_backend(tmp_path, "cpu", monkeypatch)


@pytest.mark.parametrize("name", ["CONFIGURATION", "RECOMMENDED", "SETUP"])
def test_every_configuration_is_accepted_as_it_is_written(tmp_path, name):
    path = document_cases.write(tmp_path, getattr(user_document, name), {})
    config = LMCacheEngineConfig.from_file(path)
    assert config.backend == "gds" and config.chunk_size == 256
    assert config.gds_config.cache_dir.startswith("/mnt/nvme")
    assert config.gds_config.enable_rdma is True
    assert config.gds_config.max_concurrent_ops == 4


def test_the_kv_of_2048_tokens_of_llama_70b_is_not_64_gb():
    """The document's table says so; with 80 layers, 8 KV heads of 128 and 2 bytes it is this."""
    layers, heads, size, tokens = 80, 8, 128, 2048
    assert layers * 2 * heads * size * 2 * tokens == 671_088_640
