"""Two ranks over gloo: they retrieve the same tokens, whatever becomes of one rank's copies."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from compat_cases import CHUNK, TOKENS, WHOLE, Model, pages_of

FROM, TO = pages_of(0), pages_of(1)


def broadcast(tensor: torch.Tensor, src: int) -> None:
    dist.broadcast(tensor, src)


def broadcast_object(value: object, src: int) -> object:
    box = [value]
    dist.broadcast_object_list(box, src)
    return box[0]


def build(directory: Path, rank: int, **more) -> Model:
    torch.manual_seed(0 if more.get("use_mla") else rank)
    return Model(
        directory,
        rank=rank,
        world_size=2,
        functions=(broadcast, broadcast_object),
        **more,
    )


def damage(directory: Path, part: torch.Tensor) -> None:
    wanted = part.numpy().tobytes()
    with (directory / "pool.data").open("r+b") as pool:
        data = pool.read()
        assert data.count(wanted) == 1
        pool.seek(data.find(wanted))
        pool.write(bytes([wanted[0] ^ 1]))


def both_retrieve_their_own(directory: Path, rank: int) -> None:
    model = build(directory, rank)
    expected = model.at(FROM[:WHOLE])
    model.store(FROM)
    dist.barrier()
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected)
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, FROM)
    *_, mask = steps
    assert mask.sum() == WHOLE
    model.close()


def the_shorter_prefix_counts(directory: Path, rank: int) -> None:
    model = build(directory, rank)
    kept = WHOLE if rank == 0 else 2 * CHUNK
    model.store(FROM[:kept], TOKENS[:kept])
    dist.barrier()
    assert model.engine.lookup(TOKENS) == 2 * CHUNK
    before = model.at(TO)
    assert model.retrieve(TO).sum() == 2 * CHUNK
    assert torch.equal(model.at(TO)[:, :, 2 * CHUNK :], before[:, :, 2 * CHUNK :])
    model.close()


def damage_of_one_is_a_miss_of_both(directory: Path, rank: int) -> None:
    model = build(directory, rank)
    expected = model.at(FROM)
    model.store(FROM)
    dist.barrier()
    if rank == 1:
        damage(directory, expected[1, 0, 3 * CHUNK])
    dist.barrier()
    *_, mask = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    assert mask.sum() == 3 * CHUNK
    assert torch.equal(model.at(TO[: 3 * CHUNK]), expected[:, :, : 3 * CHUNK])
    dist.barrier()
    assert model.retrieve(TO).sum() == 3 * CHUNK  # in later calls too
    model.close()


def replicated_kv_is_kept_once(directory: Path, rank: int) -> None:
    model = build(directory, rank, use_mla=True)
    expected = model.at(FROM[:WHOLE])
    model.store(FROM)
    dist.barrier()
    assert model.retrieve(TO).sum() == WHOLE
    assert torch.equal(model.at(TO[:WHOLE]), expected)
    saved = torch.tensor([model.engine.metrics()["save_chunks_ok"]])
    dist.all_reduce(saved)
    assert saved.item() == WHOLE // CHUNK
    model.close()


def memory_that_one_rank_registers_anew_ends_the_load_of_both(directory: Path, rank: int) -> None:
    model = build(directory, rank)
    model.store(FROM)
    dist.barrier()
    steps = model.engine.retrieve_layer(TOKENS, None, model.kv, TO)
    if rank == 1:
        model.engine.post_init({name: torch.zeros_like(kv) for name, kv in model.kv.items()})
    with pytest.raises(ValueError, match="other KV memory was registered"):
        next(steps)
    assert model.retrieve(TO).sum() == WHOLE  # none of them waits for the other
    model.close()


CASES = {
    case.__name__: case
    for case in (
        both_retrieve_their_own,
        the_shorter_prefix_counts,
        damage_of_one_is_a_miss_of_both,
        replicated_kv_is_kept_once,
        memory_that_one_rank_registers_anew_ends_the_load_of_both,
    )
}


def run_rank(rank: int, directory: str, names: list[str]) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{directory}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    for name in names:
        CASES[name](Path(directory) / name, rank)
        dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_agree_on_what_is_retrieved(tmp_path, monkeypatch):
    """One start for all cases: it takes most of the time. Their names are in a failure's trace."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    multiprocessing.start_processes(
        run_rank, (str(tmp_path), list(CASES)), nprocs=2, start_method="spawn"
    )


def test_ranks_that_cannot_agree_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 ranks need broadcast_fn and broadcast_object_fn"):
        Model(tmp_path / "cache", world_size=2)
