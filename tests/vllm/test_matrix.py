"""The full matrix: settings, processes, refusals. Each test starts an engine of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import damage
import pytest

pytestmark = pytest.mark.full
TELLING = {"VLLM_LOGGING_LEVEL": "INFO"}
LAYER_BY_LAYER = "loads within a step arrive layer by layer"
TOKENS = 256 + 512 + 1280 + 2816  # claimable of prompts of 300, 700, 1500 and 3000 tokens


@pytest.fixture(scope="module")
def baseline(engines):
    return engines.once("baseline")


@pytest.fixture(scope="module")
def warm(engines):
    """A store with LENGTHS in it; what its process saw."""
    return engines.once("once", store="warm")


def copy_of(engines, warm, name: str) -> str:
    shutil.copytree(engines.work / "warm", engines.work / name)
    return name


def test_front_end_scheduler_and_worker_in_processes_of_their_own(engines, baseline, warm, same):
    seen = engines.run("once", store="warm", multiprocessing=True)
    same(baseline["lengths"], seen["first"])
    assert seen["first_counters"]["restored_tokens"] == TOKENS


def test_an_emptied_store_is_a_miss(engines, baseline, same):
    seen = engines.run("once", store="empty")
    same(baseline["lengths"], seen["first"])
    assert seen["first_counters"].get("restored_tokens", 0) == 0


@pytest.mark.parametrize("block_size", [64, 96, 128])
def test_block_sizes_that_do_and_do_not_divide_the_chunk(engines, baseline, same, block_size):
    seen = engines.run("once", store=f"block-{block_size}", engine={"block_size": block_size})
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    chunk = -(-256 // block_size) * block_size
    expected = sum((n - 1) // chunk * chunk for n in (300, 700, 1500, 3000))
    assert seen["again_counters"]["restored_tokens"] == expected


@pytest.mark.parametrize("layerwise", [True, False])
def test_synchronous_loads(engines, baseline, same, layerwise):
    seen = engines.run(
        "once",
        store=f"sync-{layerwise}",
        use_async=False,
        enable_layerwise=layerwise,
        damaged=True,
        extra_environment=TELLING,
    )
    for step in ("first", "again", "damaged", "healed"):
        same(baseline["lengths"], seen[step])
    assert (LAYER_BY_LAYER in seen["log"]) == layerwise
    assert seen["again_counters"]["restored_tokens"] == TOKENS
    assert seen["damaged_counters"]["failed_loads"] >= 1
    assert seen["healed_counters"]["failed_loads"] == seen["damaged_counters"]["failed_loads"]


def test_loads_within_the_step(engines, baseline, same):
    with tempfile.TemporaryDirectory(prefix="penstock-test-", dir="/dev/shm") as directory:
        seen = engines.run("in_step", memory=f"{directory}/local", extra_environment=TELLING)
    steps = ("first", "again", "damaged", "saved", "healed", "mended")
    for step in steps:
        same(baseline["lengths"], seen[step])
    assert LAYER_BY_LAYER in seen["log"]

    def gained(step: str, before: str, name: str) -> float:
        after, before = seen[f"{step}_counters"], seen[f"{before}_counters"]
        return after.get(name, 0) - before.get(name, 0)

    assert gained("again", "first", "restored_tokens") == TOKENS
    assert gained("again", "first", "in_step_loads") == 3  # the first has to show that loads work
    assert gained("damaged", "again", "restored_tokens") == 0
    assert gained("damaged", "again", "in_step_loads") == 1
    assert gained("healed", "saved", "restored_tokens") == TOKENS
    assert gained("mended", "healed", "restored_tokens") == TOKENS
    assert gained("mended", "healed", "in_step_loads") == 4
    assert gained("mended", "damaged", "failed_loads") == 0


def test_what_is_too_old_is_computed_and_saved_again(engines, baseline, same):
    seen = engines.run("aged", limit=60.0)
    steps = ("first", "again", "late", "later")
    for step in steps:
        same(baseline["lengths"], seen[step])
    restored = [seen[f"{step}_counters"].get("restored_tokens", 0) for step in steps]
    saved = [seen[f"{step}_counters"].get("saved_tokens", 0) for step in steps]
    assert restored == [0, TOKENS, TOKENS, 2 * TOKENS]
    assert saved == [TOKENS, TOKENS, 2 * TOKENS, 2 * TOKENS]


def test_decoded_tokens_are_left_out_when_asked(engines):
    seen = engines.run("once", store="prompts-only", save_decode_cache=False)
    assert seen["saved_counters"]["saved_tokens"] == TOKENS


def test_known_by_name_through_its_entry_point(engines, baseline, same, tmp_path):
    info = tmp_path / "penstock-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[vllm.general_plugins]\npenstock = penstock.vllm:register\n"
    )
    seen = engines.run("once", store="by-name", by_name=True, extra_path=str(tmp_path))
    same(baseline["lengths"], seen["again"])
    assert seen["again_counters"]["restored_tokens"] == TOKENS


def test_other_weights_of_the_same_shape_are_another_model(engines, warm):
    """Names, sizes and headers of the weight files are the same."""
    seen = engines.run("once", store=copy_of(engines, warm, "fine-tune"), seed=1)
    assert seen["first_counters"].get("restored_tokens", 0) == 0
    assert seen["again_counters"]["restored_tokens"] == TOKENS
    assert [r["tokens"] for r in seen["first"]] == [r["tokens"] for r in seen["again"]]


def test_a_deleted_pool_is_a_miss(engines, baseline, warm, same):
    store = copy_of(engines, warm, "deleted")
    damage.delete_pools(engines.work / store)
    seen = engines.run("once", store=store)
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    assert seen["first_counters"].get("restored_tokens", 0) == 0


def test_reads_that_fail(engines, baseline, warm, same):
    seen = engines.run(
        "once",
        store=copy_of(engines, warm, "eio"),
        extra_environment={"PENSTOCK_TEST_FAULT": "read:2+:eio"},
    )
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    assert seen["first_counters"]["failed_loads"] >= 1


def test_writes_that_fail(engines, baseline, same):
    seen = engines.run(
        "once",
        store="enospc",
        extra_environment={"PENSTOCK_TEST_FAULT": "write:3+:enospc"},
    )
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    assert seen["saved_counters"]["dropped_chunks"] > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small filesystem needs root")
def test_a_full_filesystem(engines, baseline, same):
    mount = engines.work / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        seen = engines.run("once", store="small/store", min_free_gb=0)
        same(baseline["lengths"], seen["first"])
        same(baseline["lengths"], seen["again"])
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_store_that_is_too_small_for_it_all(engines, baseline, same):
    limit = 20_000_000  # bytes; LENGTHS alone are 19 chunks of 1 MiB
    seen = engines.run("once", store="tiny", max_cache_size_gb=limit / 1e9)
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    files = (engines.work / "tiny").rglob("*")
    assert sum(file.stat().st_blocks * 512 for file in files if file.is_file()) <= limit


def test_an_abort_storm(engines, baseline, same):
    seen = engines.run("abort_storm")
    same(baseline["lengths"], seen["cold"])
    same(baseline["lengths"], seen["after"])


def test_two_engines_share_a_directory(engines, baseline, same):
    other = engines.start("gemma", store="shared-by-two")
    seen = engines.run("once", store="shared-by-two")
    log, _ = other.communicate(timeout=420)
    assert other.returncode == 0, log[-4000:]
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])


def test_killed_while_it_saves_and_started_again(engines, baseline, same):
    process = engines.start("endless")
    turns = engines.work / "turns"
    until = time.monotonic() + 120
    while not turns.exists() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1.5)  # somewhere in the middle of a save
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    seen = engines.run("once", store="killed")
    same(baseline["lengths"], seen["first"])
    same(baseline["lengths"], seen["again"])
    assert seen["again_counters"]["restored_tokens"] == TOKENS


def test_a_hybrid_model_in_a_second_process(engines, same):
    cold = engines.once("gemma")
    engines.run("gemma", store="gemma-twice")
    seen = engines.run("gemma", store="gemma-twice", cold=False)
    same(cold["cold"], seen["restored"])


def test_two_ranks_in_a_second_process(engines, same):
    cold = engines.run("tensor_parallel", ranks=2, store="tp-twice")
    seen = engines.run("tensor_parallel", ranks=2, store="tp-twice", cold=False)
    same(cold["cold"], seen["restored"])
    assert seen["restored_counters"]["restored_tokens"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "recurrent"}, "recurrent state"),
        ({"model": "gemma", "use_async": False}, "Set use_async: true"),
        ({"chunk_sise": 256}, "chunk_size"),
        ({"store": "missing/parent/store"}, "missing"),
        ({"load_policy": "sometimes"}, "load_policy"),
    ],
)
def test_refuses_to_start_and_says_why(engines, arguments, sentence):
    assert sentence in engines.refusal("once", **arguments)


def test_refuses_a_file_and_a_directory_that_anybody_may_write_to(engines):
    (engines.work / "a-file").write_text("")
    assert "directory" in engines.refusal("once", store="a-file")
    open_to_all = Path(engines.work / "open-to-all")
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert "open-to-all" in engines.refusal("once", store="open-to-all")
