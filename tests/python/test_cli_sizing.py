"""`penstock simulate` and `penstock size`, driven as a user drives them."""

import json
import struct
import zlib

import pytest
from test_cli import COULD_NOT_RUN, GOOD, run, run_json

BLOCK = 512
# 2048 bytes a token and chunks of 512 tokens: a chunk is one block of 1 MiB.
SHAPE = ["--bytes-per-token", 2048, "--chunk", BLOCK]
CHUNK_BYTES = 2048 * BLOCK
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
}
LLAMA_70B = LLAMA_8B | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64}
DEEPSEEK_V3 = LLAMA_8B | {
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
}


def request(seconds, document, chunks=8, rest=10):
    """A prompt of `chunks` full chunks and `rest` tokens more."""
    ids = [document * 1000 + i for i in range(chunks + (rest > 0))]
    return {
        "timestamp": seconds * 1000,
        "input_length": chunks * BLOCK + rest,
        "output_length": 1,
        "hash_ids": ids,
    }


def write_trace(path, requests):
    path.write_text("".join(json.dumps(r) + "\n" for r in requests))
    return path


@pytest.fixture
def trace(tmp_path):
    """A, B, A, C, A, B; 8 chunks each."""
    documents = [1, 2, 1, 3, 1, 2]
    return write_trace(tmp_path / "trace", [request(t, d) for t, d in enumerate(documents)])


def test_help_lists_both_commands():
    done = run("--help")
    for command in ["simulate", "size"]:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", ["simulate", "size"])
def test_help_teaches_by_example(command):
    done = run(command, "--help")
    assert done.returncode == GOOD
    assert f"  penstock {command} " in done.stdout
    assert "Exit code: 0" in done.stdout and "--json" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


# simulate


def test_hit_rates_that_can_be_computed_by_hand(trace, tmp_path):
    # 0.026622 GB leave 20 blocks beside the index, of which 4 are kept free. C drives out all of B,
    # and the last chunk of A (a quarter more than the 4 is made free); B is gone when it returns.
    # Where there is room for all, the second and third A and the second B are hits.
    report = run_json(tmp_path / "out.json", "simulate", trace, *SHAPE, "--capacity", "100,.026622")
    small, large, endless = report["capacities"]
    tokens = 6 * (8 * BLOCK + 10)
    assert report["prompt_tokens"] == tokens and report["requests"] == 6
    assert small["capacity_gb"] == pytest.approx(0.026622) and endless["capacity_gb"] is None
    assert small["restored_tokens"] == (8 + 7) * BLOCK
    assert small["token_hit_rate"] == pytest.approx(15 * BLOCK / tokens)
    assert small["request_hit_rate"] == pytest.approx(2 / 6)
    assert small["written_bytes"] == (24 + 1 + 8) * CHUNK_BYTES
    for row in (large, endless):
        assert row["restored_tokens"] == 24 * BLOCK
        assert row["request_hit_rate"] == pytest.approx(3 / 6)
        assert row["written_bytes"] == 24 * CHUNK_BYTES
        assert row["evicted_chunks"] == 0
    assert small["evicted_chunks"] > 0
    assert small["peak_bytes"] <= 20 * CHUNK_BYTES
    assert endless["peak_bytes"] == large["peak_bytes"] == 24 * CHUNK_BYTES


def test_writes_a_day_and_the_life_of_the_drive(trace, tmp_path):
    words = ["simulate", trace, *SHAPE, "--capacity", 100, "--drive-tb", 2]
    report = run_json(tmp_path / "a.json", *words, "--dwpd", 3)
    daily = 24 * CHUNK_BYTES / 5 * 86400  # five seconds of trace
    for row in report["capacities"]:
        assert row["written_bytes_per_day"] == pytest.approx(daily)
        assert row["drive_writes_per_day"] == pytest.approx(daily / 2e12)
        assert row["drive_life_years"] == pytest.approx(2e12 * 3 * 365 * 5 / daily / 365)
    report = run_json(tmp_path / "b.json", *words, "--tbw", 500)
    assert report["capacities"][0]["drive_life_years"] == pytest.approx(500e12 / daily / 365)


def test_a_write_limit_is_kept(trace, tmp_path):
    gb = 10 * CHUNK_BYTES / 1e9
    report = run_json(
        tmp_path / "out.json",
        *["simulate", trace, *SHAPE, "--capacity", 100, "--max-write-gb-per-day", gb],
    )
    for row in report["capacities"]:
        assert row["written_bytes"] <= 10 * CHUNK_BYTES
        assert row["rejected_chunks"] > 0
        assert row["written_bytes_per_day"] <= gb * 1e9 * 1.0001


def test_the_last_token_is_always_computed(tmp_path):
    trace = write_trace(tmp_path / "trace", [request(t, 1, rest=0) for t in (0, 1)])
    report = run_json(tmp_path / "out.json", "simulate", trace, *SHAPE, "--capacity", 100)
    assert report["capacities"][0]["restored_tokens"] == 7 * BLOCK


def test_a_chunk_may_be_a_part_or_several_of_the_traces_blocks(trace, tmp_path):
    for chunk, restored in [(256, 24 * BLOCK), (1024, 24 * BLOCK), (4096, 24 * BLOCK)]:
        words = ["simulate", trace, "--bytes-per-token", 2048, "--chunk", chunk]
        report = run_json(tmp_path / "out.json", *words, "--capacity", 100)
        assert report["capacities"][0]["restored_tokens"] == restored
    done = run("simulate", trace, "--chunk", 384)
    assert done.returncode == COULD_NOT_RUN and "--trace-block 512" in done.stderr


def test_the_model_says_how_large_a_token_is(trace, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA_70B))
    words = ["simulate", trace, "--model", config, "--tp", 8, "--capacity", 100]
    report = run_json(tmp_path / "out.json", *words)
    assert report["bytes_per_token"] == 327680
    assert report["capacities"][0]["peak_bytes"] == 24 * BLOCK * 327680


def chunks_of_png(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            name + body
        )
        yield name, body
        at += 12 + size


def test_the_curve_is_drawn_and_nothing_is_left_behind(trace, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    png = tmp_path / "curve.png"
    done = run(
        *["simulate", trace, *SHAPE, "--capacity", "0.026622,1,100"],
        *["--png", png, "--dir", scratch],
    )
    assert done.returncode == GOOD, done.stderr
    assert done.stderr == "", "no progress bar in a pipe"
    assert "|" in done.stdout and "*" in done.stdout and "100 GB" in done.stdout
    assert list(scratch.iterdir()) == []
    (first, header), (second, body), (last, _) = chunks_of_png(png.read_bytes())
    assert [first, second, last] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, kind = struct.unpack(">IIBB", header[:10])
    assert (depth, kind) == (8, 2)
    rows = zlib.decompress(body)
    assert len(rows) == height * (1 + 3 * width)
    assert len(set(rows)) > 5, "something is drawn"


GOOD_LINE = json.dumps(request(10, 1))


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"timestamp": 1}', "input_length is missing"),
        (json.dumps(request(9, 1)), "timestamp 9000 lies before the one above it, 10000"),
        (json.dumps(request(10, 1) | {"timestamp": -1}), "timestamp is not"),
        (json.dumps(request(10, 1) | {"timestamp": 1.5}), "timestamp is not"),
        (json.dumps(request(10, 1) | {"input_length": "7"}), "input_length is not"),
        (json.dumps(request(10, 1) | {"input_length": 10**12}), "input_length is not"),
        (json.dumps(request(10, 1) | {"output_length": None}), "output_length is not"),
        (json.dumps(request(10, 1) | {"hash_ids": 3}), "hash_ids is not a list"),
        (json.dumps(request(10, 1) | {"hash_ids": [1]}), "1 hash_ids for 4106 tokens"),
        (json.dumps(request(10, 1) | {"hash_ids": [None] * 9}), "not a whole number"),
    ],
)
def test_a_malformed_line_is_named_by_its_number(line, message, tmp_path):
    trace = tmp_path / "trace"
    trace.write_text(f"{GOOD_LINE}\n\n{line}\n{GOOD_LINE}\n")
    done = run("simulate", trace)
    assert done.returncode == COULD_NOT_RUN
    assert f"{trace}:3: " in done.stderr and message in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["simulate"], "TRACE"),
        (["simulate", "/no/such/trace"], "/no/such/trace"),
        (["simulate", "TRACE", "--capacity", "0"], "--capacity"),
        (["simulate", "TRACE", "--capacity", "0.001"], "too small"),
        (["simulate", "TRACE", "--capacity", "much"], "much"),
        (["simulate", "TRACE", "--tp", "2"], "--model"),
        (["simulate", "TRACE", "--model", "/no/such/config"], "/no/such/config"),
        (["simulate", "TRACE", "--dwpd", "1", "--tbw", "1"], "--tbw"),
        (["simulate", "TRACE", "--capacity", "1", "--png", "/no/such/x.png"], "/no/such/x.png"),
        (["size"], "--model"),
        (["size", "--model", "/no/such/config"], "/no/such/config"),
        (["size", "--model", "TRACE"], "not JSON"),
    ],
)
def test_bad_input_is_named_and_ends_in_2(words, message, trace):
    done = run(*[trace if word == "TRACE" else word for word in words])
    assert done.returncode == COULD_NOT_RUN
    assert message in done.stderr
    assert "terminate" not in done.stderr


def test_an_empty_trace_is_refused(tmp_path):
    trace = write_trace(tmp_path / "trace", [])
    done = run("simulate", trace)
    assert done.returncode == COULD_NOT_RUN and "no request" in done.stderr


# size


def size_of(config, tmp_path, *words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return run_json(tmp_path / "size.json", "size", "--model", path, *words)


def test_size_of_llama_8b(tmp_path):
    report = size_of(LLAMA_8B, tmp_path)
    assert report["bytes_per_token"] == report["bytes_per_token_per_rank"] == 131072
    assert report["tokens_per_tb"] == 10**12 // 131072
    assert report["chunk_bytes"] == 32 * 1024 * 1024
    assert [row["gbs"] for row in report["break_even"]] == [
        pytest.approx(row["prefill_tokens_per_s"] * 131072 / 1e9) for row in report["break_even"]
    ]


def test_size_of_llama_70b_on_eight_ranks(tmp_path):
    report = size_of(LLAMA_70B, tmp_path, "--tp", 8, "--prefill-tokens-per-s", 26000)
    assert report["bytes_per_token"] == 327680 and report["bytes_per_token_per_rank"] == 40960
    assert report["gb_of_2048_tokens"] == pytest.approx(0.671, abs=0.0005)
    (row,) = report["break_even"]
    assert row["gbs"] == pytest.approx(26000 * 327680 / 1e9)


def test_size_of_deepseek_v3(tmp_path):
    report = size_of(DEEPSEEK_V3, tmp_path, "--tp", 8)
    assert report["latent"] is True
    assert report["bytes_per_token"] == 576 * 2 * 61
    report = size_of(DEEPSEEK_V3, tmp_path, "--kv-dtype", "fp8")
    assert report["bytes_per_token"] == 576 * 61


def test_size_names_the_key_that_is_missing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in LLAMA_8B.items() if k != "num_hidden_layers"}))
    done = run("size", "--model", path)
    assert done.returncode == COULD_NOT_RUN
    assert f"{path}: num_hidden_layers is missing" in done.stderr
    done = run("size", "--model", path, "--tp", 0)
    assert done.returncode == COULD_NOT_RUN and "--tp" in done.stderr


def test_size_says_which_types_and_files_it_takes(tmp_path):
    help_text = run("size", "--help").stdout
    assert "{auto,bf16,fp8}" in help_text and "\0" not in help_text
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B))
    done = run("size", "--model", path, "--kv-dtype", "fp16")
    assert done.returncode == COULD_NOT_RUN and "{auto,bf16,fp8}" in done.stderr
    done = run("size", "--model", tmp_path)
    assert done.returncode == COULD_NOT_RUN and f"such as {path}" in done.stderr


def test_size_refuses_ranks_that_do_not_divide_the_heads(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA_8B))
    done = run("size", "--model", path, "--tp", 3)
    assert done.returncode == COULD_NOT_RUN and "8 KV heads" in done.stderr
