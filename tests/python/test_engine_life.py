"""The ends of an engine: closed under a waiting thread, left open at exit, inherited by a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import small_engine
from small_engine import PER_CHUNK, chain, open_engine, run

CHUNKS = 12
NAMESPACE = bytes(32)


def submit(engine, namespace: int, kind: str, **extra) -> int:
    keys = chain(CHUNKS)
    parents = b"".join([bytes(32), *keys[:-1]])
    rows = list(range(CHUNKS * PER_CHUNK))
    return engine.submit(kind, namespace, 0, b"".join(keys), parents, [0] * CHUNKS, rows, **extra)


def saved(work: Path, monkeypatch) -> None:
    """A chain of ones in the store, whose reads take a while from now on."""
    engine = open_engine(work)
    pages = small_engine._memory[-1]
    pages[:] = b"\1" * len(pages)
    assert run(engine, "save", engine.open_namespace(NAMESPACE, "{}"), CHUNKS).status == "ok"
    engine.close()
    monkeypatch.setenv("PENSTOCK_TEST_FAULT", "read:1+:delay")


def test_no_page_is_written_after_close_though_another_thread_waits(tmp_path, monkeypatch):
    saved(tmp_path, monkeypatch)
    engine = open_engine(tmp_path, io_depth=1)
    pages = small_engine._memory[-1]  # of zeros
    namespace = engine.open_namespace(NAMESPACE, "{}")
    begun, ended = threading.Event(), []

    def wait():
        begun.set()
        ended.append(engine.wait(20))

    waiting = threading.Thread(target=wait)
    waiting.start()
    begun.wait()
    submit(engine, namespace, "load")
    engine.close()
    at_close = bytes(pages)
    waiting.join()
    assert bytes(pages) == at_close
    assert ended == [True]  # its result was there


def test_waits_are_neither_cut_short_nor_endless(tmp_path, monkeypatch):
    saved(tmp_path, monkeypatch)
    engine = open_engine(tmp_path, io_depth=1)
    namespace = engine.open_namespace(NAMESPACE, "{}")
    submit(engine, namespace, "load", deadline_s=1e-4)
    assert engine.wait(float("inf"))
    (result,) = engine.poll()
    assert result.status == "timeout"
    assert not engine.wait(float("nan")) and not engine.wait(-1.0)
    engine.close()


def ends_well(work: Path, script: str) -> str:
    """What a process of its own said."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script, str(work)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


EXIT = """
import sys, threading, time
from pathlib import Path
from small_engine import open_engine
engine = open_engine(Path(sys.argv[1]))
def forever(call):
    while True:
        call()
calls = [lambda: engine.wait(0.001), lambda: engine.open_namespace(bytes(32), "{}"),
         lambda: engine.probe_drives(4096), lambda: engine.wait(1000.0)]
for call in calls:
    threading.Thread(target=forever, args=(call,), daemon=True).start()
time.sleep(0.1)  # they are at it
"""


def test_a_process_may_end_while_threads_are_in_calls(tmp_path):
    for turn in range(3):
        ends_well(tmp_path / str(turn), "import sys, os; os.mkdir(sys.argv[1])\n" + EXIT)


FORK = """
import os, sys
from pathlib import Path
from penstock import PenstockError
from small_engine import open_engine
engine = open_engine(Path(sys.argv[1]))
lookup = engine.lookup(engine.open_namespace(bytes(32), "{}"), bytes(32), [(0, 1, 0)])
calls = {
    "metrics": engine.metrics, "facts": engine.facts, "poll": engine.poll,
    "wait": lambda: engine.wait(1.0), "cancel": lambda: engine.cancel(1),
    "submit": lambda: engine.submit("save", 1, 0, bytes(32), bytes(32), [0], [0]),
    "open_namespace": lambda: engine.open_namespace(bytes(32), "{}"),
}
child = os.fork()
if child == 0:
    for name, call in calls.items():
        try:
            call()
            print(name, "goes on", flush=True)
        except PenstockError as error:
            print(name, "raises" if "forked" in str(error) else error, flush=True)
    engine.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", sorted(engine.facts())[:1] and "goes on", flush=True)
engine.close()
"""


def test_a_forked_child_is_told_so_by_every_call(tmp_path):
    said = dict(line.split(" ", 1) for line in ends_well(tmp_path, FORK).splitlines())
    assert said.pop("parent") == "goes on"
    assert len(said) == 7 and set(said.values()) == {"raises"}


FORK_WHILE_LOADING = """
import gc, os, signal, sys
from pathlib import Path
from small_engine import open_engine, run
from test_engine_life import CHUNKS, NAMESPACE, submit
work = Path(sys.argv[1])
engine = open_engine(work)
assert run(engine, "save", engine.open_namespace(NAMESPACE, "{}"), CHUNKS).status == "ok"
engine.close()
os.environ["PENSTOCK_TEST_FAULT"] = "read:1+:delay"
signal.alarm(60)  # ends this process if a child does not
for turn in range(5):
    engine = open_engine(work, io_depth=2)
    job = submit(engine, engine.open_namespace(NAMESPACE, "{}"), "load")
    if turn % 2:
        engine.wait(0.005 * turn)
    child = os.fork()
    if child == 0:
        if turn != 3:
            engine.close()
        del engine
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    while not (results := engine.poll()):
        engine.wait(1.0)
    assert [(result.id, result.status) for result in results] == [(job, "ok")]
    engine.close()
"""


def test_a_child_that_was_forked_while_bytes_were_on_their_way_waits_for_none(tmp_path):
    ends_well(tmp_path, FORK_WHILE_LOADING)
