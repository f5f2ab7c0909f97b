"""`penstock top` and `stats`: what they say of the processes that use a store."""

import json
import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest
from small_engine import COPY, open_engine, save_and_load

CLI = str(Path(os.environ.get("PENSTOCK_CLI", "build/penstock")).resolve())


def shown(store, *words):
    out = store.parent / "out.json"
    subprocess.run([CLI, *words, "--dir", store, "--json", out], check=True, capture_output=True)
    return json.loads(out.read_text())


def wait_until(condition, timeout=20.0):
    """What the condition gave when it was met; the index thread writes once a second."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(tmp_path)
    save_and_load(engine, chunks=3)
    yield engine
    engine.close()


def processes_that_loaded(store, command):
    rows = shown(store, *command)["processes"]
    return rows if rows and rows[0]["loaded_bytes"] else None


@pytest.mark.parametrize("command", [["top", "--once"], ["stats"]])
def test_a_living_process_is_shown(engine, tmp_path, command):
    (row,) = wait_until(lambda: processes_that_loaded(tmp_path / "store", command))
    assert row["pid"] == str(os.getpid())
    assert row["device"] == "cpu"
    assert row["io_engine"] in ("uring", "posix")
    assert row["loaded_bytes"] == row["saved_bytes"] == 3 * COPY
    assert (row["lookup_hits"], row["lookup_chunks"]) == (3, 4)
    assert 0 < row["load_p50_seconds"] <= row["load_p99_seconds"] <= 10
    assert row["io_in_flight_limit"] > 0


def test_a_closed_engine_is_not_shown(engine, tmp_path):
    wait_until(lambda: shown(tmp_path / "store", "top")["processes"])
    engine.close()
    assert shown(tmp_path / "store", "top")["processes"] == []
    assert not list((tmp_path / "store").glob("penstock.live.*"))


def test_without_metrics_nothing_is_told(tmp_path):
    engine = open_engine(tmp_path, enable_metrics=False)
    try:
        save_and_load(engine, chunks=1)
        assert not list((tmp_path / "store").glob("penstock.live.*"))
    finally:
        engine.close()


def test_without_a_terminal_it_is_shown_once(engine, tmp_path):
    wait_until(lambda: processes_that_loaded(tmp_path / "store", ["top"]))
    done = subprocess.run(
        [CLI, "top", "--dir", tmp_path / "store"], check=True, capture_output=True, text=True
    )
    assert str(os.getpid()) in done.stdout and "3 copies" in done.stdout
    assert "\033" not in done.stdout


def read_screen(terminal, process, until):
    """What is drawn until it holds a text."""
    drawn = b""
    deadline = time.monotonic() + 20
    while until not in drawn.decode(errors="replace"):
        assert time.monotonic() < deadline and process.poll() is None, drawn
        if select.select([terminal], [], [], 0.1)[0]:
            drawn += os.read(terminal, 65536)
    return drawn


def read_to_end(terminal):
    """What is drawn until the program has let go of the terminal."""
    drawn = b""
    while select.select([terminal], [], [], 20)[0]:
        try:
            drawn += os.read(terminal, 65536)
        except OSError:  # nobody has it open any more
            return drawn
    raise AssertionError(f"it goes on: {drawn!r}")


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_in_a_terminal_it_is_live_until_a_key(engine, tmp_path, key):
    wait_until(lambda: processes_that_loaded(tmp_path / "store", ["top"]))
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [CLI, "top", "--dir", tmp_path / "store"],
        stdin=theirs,
        stdout=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # its own terminal
    )
    try:
        os.close(theirs)
        read_screen(terminal, process, "load/s")  # the second frame knows rates
        os.write(terminal, key)
        rest = read_to_end(terminal)
        assert process.wait(20) == 0
        assert b"\033[?1049l" in rest and b"\033[?25h" in rest  # the screen is as it was
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
