"""The `penstock` command, driven as a user drives it. PENSTOCK_CLI names the program."""

import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import tempfile

import pytest

CLI = os.environ.get("PENSTOCK_CLI", "build/penstock")
COMMANDS = ["demo", "bench", "doctor", "ls", "verify", "stats", "top"]
GOOD, SHORTFALL, COULD_NOT_RUN = 0, 1, 2
CHUNK_BYTES = 32 * 1024 * 1024


def run(*words, env=None, cwd=None):
    program = pathlib.Path(CLI).resolve()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    return subprocess.run(
        [program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=environment | (env or {}),
    )


def run_json(path, *words, code=GOOD, **kwargs):
    done = run(*words, "--json", path, **kwargs)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One demo of 1024 tokens, with its store kept: (store, what it reported)."""
    directory = tmp_path_factory.mktemp("demo")
    report = run_json(
        directory / "demo.json", "demo", "--dir", directory, "--tokens", 1024, "--keep"
    )
    return pathlib.Path(report["store"]), report


@pytest.fixture
def store(demo, tmp_path):
    """A copy of the demo's store, to damage."""
    copy = tmp_path / "store"
    shutil.copytree(demo[0], copy)
    copy.chmod(0o700)
    return copy


def pool_file(store):
    return max(store.iterdir(), key=lambda path: path.stat().st_size)


def flip_byte(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


# What it says about itself.


def test_without_arguments_it_explains_itself():
    done = run()
    assert done.returncode == COULD_NOT_RUN
    for command in COMMANDS:
        assert command in done.stdout


def test_help_lists_the_commands_and_nothing_hidden():
    done = run("--help")
    assert done.returncode == GOOD
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "demo-restore" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    done = run(command, "--help")
    assert done.returncode == GOOD
    assert "Examples:" in done.stdout
    assert f"  penstock {command} " in done.stdout
    assert "Exit code: 0" in done.stdout
    assert "--json" in done.stdout and "--dir" in done.stdout


def test_help_config_is_the_page_in_docs():
    page = pathlib.Path(__file__).parents[2] / "docs" / "CONFIGURATION.md"
    done = run("--help-config")
    assert done.returncode == GOOD
    assert done.stdout == page.read_text()


# Bad input.


@pytest.mark.parametrize(
    "words, message",
    [
        (["demos"], "demos"),
        (["demo", "--tokens", "many"], "many"),
        (["demo", "--tokens", "-5"], "--tokens"),
        (["demo", "--tokens", "255"], "at least 256"),
        (["demo", "--dir", "/no/such/directory"], "/no/such/directory"),
        (["demo", "--text", "/no/such/text"], "/no/such/text"),
        (["bench", "--sizes", "5000"], "5000"),
        (["bench", "--sizes", "huge"], "huge"),
        (["bench", "--rounds", "0"], "--rounds"),
        (["doctor", "--dir", "/no/such/directory"], "/no/such/directory"),
        (["ls"], "--dir"),
        (["ls", "--dir", "/no/such/directory"], "/no/such/directory"),
        (["verify", "--dir", "/no/such/directory"], "/no/such/directory"),
        (["stats", "--dir", "/no/such/directory"], "/no/such/directory"),
    ],
)
def test_bad_input_is_named_and_ends_in_2(words, message):
    done = run(*words)
    assert done.returncode == COULD_NOT_RUN
    assert message in done.stderr
    assert "terminate" not in done.stderr


@pytest.mark.parametrize("command", ["ls", "verify", "stats", "top"])
def test_a_directory_without_a_store_is_left_as_it_is(command, tmp_path):
    done = run(command, "--dir", tmp_path)
    assert done.returncode == COULD_NOT_RUN
    assert str(tmp_path) in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_that_cannot_be_written_is_an_error(demo):
    done = run("stats", "--dir", demo[0], "--json", "/no/such/directory/x.json")
    assert done.returncode == COULD_NOT_RUN
    assert "/no/such/directory/x.json" in done.stderr


def test_an_empty_text_is_refused(tmp_path):
    text = tmp_path / "empty.txt"
    text.write_text(" \n")
    done = run("demo", "--text", text, "--dir", tmp_path)
    assert done.returncode == COULD_NOT_RUN
    assert "empty.txt" in done.stderr


# demo


def test_demo_restores_every_byte(demo):
    report = demo[1]
    assert report["bytes_equal"] is True
    assert report["wrong_bytes"] == 0
    assert report["tokens"] == report["saved_tokens"] == report["restored_tokens"] == 1024
    assert report["save_bytes"] == report["restore_bytes"] == 4 * CHUNK_BYTES
    assert report["raw_read_bytes"] == 4 * CHUNK_BYTES
    for key in ["save_gbs", "restore_gbs", "raw_read_gbs", "restore_pct_of_raw"]:
        assert report[key] > 0


def test_demo_takes_the_tokens_of_a_text_and_cleans_up(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox " * 100)
    done = run("demo", "--tokens", 600, "--text", text, cwd=tmp_path)
    assert done.returncode == GOOD, done.stderr
    assert "512 tokens in 2 chunks" in done.stdout
    assert "\r" not in done.stdout + done.stderr, "no progress bar in a pipe"
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_demo_reports_bytes_that_a_drive_changed(tmp_path):
    report = run_json(
        tmp_path / "demo.json",
        *["demo", "--tokens", 512, "--dir", tmp_path],
        code=SHORTFALL,
        env={"PENSTOCK_TEST_FAULT": "read:3:corrupt"},
    )
    assert report["bytes_equal"] is False
    assert report["restored_tokens"] < 512
    assert report["failure"] == "corrupt"


# verify


def test_verify_finds_nothing_wrong_with_a_good_store(demo, tmp_path):
    report = run_json(tmp_path / "verify.json", "verify", "--dir", demo[0])
    assert report["copies"] == 4
    assert report["bytes"] == 4 * CHUNK_BYTES
    assert report["damaged"] == [] and report["audit"] == []


def test_verify_names_a_damaged_copy_and_repair_drops_it(store, tmp_path):
    copies = run_json(tmp_path / "ls.json", "ls", "--dir", store, "--copies", 1)["copies"]
    last = copies[-1]
    flip_byte(pool_file(store), last["extents"][0]["offset"] + 12345)

    report = run_json(tmp_path / "verify.json", "verify", "--dir", store, code=SHORTFALL)
    assert [copy["key"] for copy in report["damaged"]] == [last["key"]]
    assert report["damaged"][0]["block"] == 0

    done = run("verify", "--dir", store)
    assert done.returncode == SHORTFALL
    assert last["key"][:16] in done.stdout

    report = run_json(tmp_path / "repair.json", "verify", "--dir", store, "--repair")
    assert report["dropped"] >= 1
    report = run_json(tmp_path / "verify.json", "verify", "--dir", store)
    assert report["copies"] == 3 and report["damaged"] == []


def test_verify_finds_every_flipped_byte_wherever_it_is(store, tmp_path):
    copies = run_json(tmp_path / "ls.json", "ls", "--dir", store, "--copies", 1)["copies"]
    for copy in copies:
        extent = copy["extents"][-1]
        flip_byte(pool_file(store), extent["offset"] + extent["bytes"] - 1)
    report = run_json(tmp_path / "verify.json", "verify", "--dir", store, code=SHORTFALL)
    assert {copy["key"] for copy in report["damaged"]} == {copy["key"] for copy in copies}


def test_a_pool_that_is_gone_is_damage(store, tmp_path):
    pool_file(store).unlink()
    done = run("verify", "--dir", store)
    assert done.returncode == SHORTFALL, done.stdout + done.stderr
    assert "every directory of cache_dir" in done.stdout


def test_an_index_of_another_version_is_not_called_damage(store):
    with sqlite3.connect(store / "penstock.db") as index:
        index.execute("PRAGMA user_version = 2")
    index.close()
    done = run("verify", "--dir", store)
    assert done.returncode == SHORTFALL
    assert "UNUSABLE" in done.stdout and "DAMAGED" not in done.stdout
    assert "another version of Penstock wrote it" in done.stdout


@pytest.mark.parametrize("command", ["ls", "stats", "verify", "top"])
def test_a_directory_without_a_store_is_called_so(tmp_path, command):
    done = run(command, "--dir", tmp_path)
    assert done.returncode == COULD_NOT_RUN
    assert f"no store in {tmp_path}" in done.stderr


def test_an_index_of_random_bytes_is_damage_and_no_crash(store):
    for path in store.iterdir():
        if path != pool_file(store) and path.stat().st_size >= 4096:
            path.write_bytes(os.urandom(path.stat().st_size))
    done = run("verify", "--dir", store)
    assert done.returncode in (SHORTFALL, COULD_NOT_RUN)
    assert done.stdout + done.stderr != ""


# ls and stats


def test_ls_lists_namespaces_and_copies(demo, tmp_path):
    report = run_json(tmp_path / "ls.json", "ls", "--dir", demo[0])
    (namespace,) = report["namespaces"]
    assert namespace["copies"] == 4 and namespace["bytes"] == 4 * CHUNK_BYTES
    assert "Llama-3.1-8B" in namespace["description"]
    report = run_json(tmp_path / "ls.json", "ls", "--dir", demo[0], "--copies", namespace["id"])
    assert len(report["copies"]) == 4
    for copy in report["copies"]:
        assert copy["bytes"] == CHUNK_BYTES
        assert sum(extent["bytes"] for extent in copy["extents"]) == CHUNK_BYTES
    done = run("ls", "--dir", demo[0], "--copies", 999)
    assert done.returncode == COULD_NOT_RUN and "999" in done.stderr


def test_stats_promise_no_more_than_the_drive_has(store, tmp_path):
    with sqlite3.connect(store / "penstock.db") as index:
        index.execute("UPDATE meta SET max_bytes = 1e15")
    index.close()
    report = run_json(tmp_path / "stats.json", "stats", "--dir", store)
    space = os.statvfs(store)
    assert report["capacity_bytes"] == 10**15
    assert 0 < report["free_bytes"] <= space.f_blocks * space.f_frsize


def test_stats_add_up(demo, tmp_path):
    report = run_json(tmp_path / "stats.json", "stats", "--dir", demo[0])
    assert report["used_bytes"] >= 4 * CHUNK_BYTES
    assert report["capacity_bytes"] >= report["used_bytes"]
    assert report["written_today_bytes"] >= 4 * CHUNK_BYTES
    assert report["copies"] == 4 and report["evictions"] == 0
    assert [n["copies"] for n in report["namespaces"]] == [4]


# doctor


def test_doctor_says_what_the_machine_can_do(tmp_path):
    report = run_json(tmp_path / "doctor.json", "doctor", "--dir", tmp_path)
    assert report["problems"] == []
    assert report["machine"]["filesystem"] != ""
    assert report["io_engine"] in ("uring", "posix")
    assert report["free_bytes"] > 0 and report["memlock_bytes"] > 0
    assert report["raw_read_gbs"] > 0 and report["raw_write_gbs"] > 0
    by_depth = report["raw_read_gbs_by_io_depth"]
    assert by_depth == {} or by_depth["32"] == report["raw_read_gbs"]
    assert isinstance(report["o_direct"], bool) and isinstance(report["io_uring"], bool)
    assert [path.name for path in tmp_path.iterdir()] == ["doctor.json"]


@pytest.mark.parametrize("name", [".", "sub/..", ""])
def test_doctor_knows_a_directory_however_it_is_written(tmp_path, name):
    (tmp_path / "sub").mkdir()
    out = tmp_path / "doctor.json"
    done = run("doctor", "--dir", name or f"{tmp_path}/", "--json", out, cwd=tmp_path)
    report = json.loads(out.read_text())
    assert report["directory"] == str(tmp_path)
    assert "does not exist" not in done.stdout
    assert isinstance(report["tuning"]["drives"], list)


def test_doctor_says_whether_cufile_is_used_and_why(tmp_path):
    report = run_json(tmp_path / "doctor.json", "doctor", "--dir", tmp_path)
    assert isinstance(report["cufile"]["proven"], bool)
    assert report["cufile"]["sentence"] != ""
    done = run("doctor", "--dir", tmp_path)
    assert "cuFile" in done.stdout and report["cufile"]["sentence"] in done.stdout


def test_doctor_takes_a_directory_that_a_store_would_make(tmp_path):
    done = run("doctor", "--dir", tmp_path / "cache")
    assert done.returncode == GOOD
    assert "does not exist yet" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_doctor_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    done = run("doctor", "--dir", tmp_path / "file")
    assert done.returncode == COULD_NOT_RUN
    assert "not a directory" in done.stderr


def test_doctor_takes_the_list_of_the_variable(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    out = tmp_path / "doctor.json"
    done = run("doctor", "--json", out, env={"PENSTOCK_CACHE_DIR": f"{tmp_path}/a,{tmp_path}/b"})
    assert done.returncode == GOOD, done.stderr
    reports = json.loads(out.read_text())
    assert [report["directory"] for report in reports] == [f"{tmp_path}/a", f"{tmp_path}/b"]


def test_doctor_warns_of_memory_that_a_restart_empties():
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="penstock-test-") as directory:
        done = run("doctor", "--dir", directory)
    assert f"{directory} (tmpfs) is host memory" in done.stdout
    assert "Nothing to change" not in done.stdout


def test_doctor_warns_of_a_world_writable_directory(tmp_path):
    tmp_path.chmod(0o777)
    done = run("doctor", "--dir", tmp_path)
    assert "chmod o-w" in done.stdout


# bench


def test_bench_measures_what_it_says(tmp_path):
    report = run_json(
        tmp_path / "bench.json",
        *["bench", "--dir", tmp_path, "--sizes", "128K,1M", "--gb", 0.1, "--rounds", 2],
    )
    assert [size["chunk_bytes"] for size in report["chunk_sizes"]] == [128 * 1024, 1024 * 1024]
    for size in report["chunk_sizes"]:
        for key in [
            *["raw_read_gbs", "raw_write_gbs", "restore_gbs", "save_gbs"],
            *["restore_pct_of_raw", "save_pct_of_raw"],
            *["restore_cpu_s_per_gb", "save_cpu_s_per_gb"],
            *["lookup_us_p50", "lookup_us_p99", "open_ms"],
        ]:
            assert size[key] > 0, key
        assert len(size["round_figures"]["restore_gbs"]) == 2
    assert report["machine"]["cpu"] != ""
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
