"""python/penstock/config.py: from YAML or a dict to the core's flat entries."""

from __future__ import annotations

from pathlib import Path

import pytest
from penstock import Config, PenstockError
from penstock.config import ConfigError, entries_of, flatten, read_file

YAML = """
backend: "gds"
gds_config:
  cache_dir: [/a, /b]
  enable_gds: yes
  max_cache_size_gb: 1e2
chunk_size: 0256
"""


def test_flattens_nested_settings():
    assert flatten({"a": {"b": [1, 2.5], "c": True}, "d": "x"}) == [
        ("a.b", ["1", "2.5"], True),
        ("a.c", ["true"], False),
        ("d", ["x"], False),
    ]


def test_scalars_of_a_file_stay_as_written(tmp_path: Path):
    file = tmp_path / "penstock.yaml"
    file.write_text(YAML)
    entries = dict((path, values) for path, values, _ in flatten(read_file(file)))
    assert entries["gds_config.enable_gds"] == ["yes"]
    assert entries["gds_config.max_cache_size_gb"] == ["1e2"]
    assert entries["chunk_size"] == ["0256"]
    assert entries["gds_config.cache_dir"] == ["/a", "/b"]


def test_an_inline_key_wins_over_the_file(tmp_path: Path):
    file = tmp_path / "penstock.yaml"
    file.write_text("chunk_size: 512\nlog_level: error\n")
    entries = entries_of({"config": str(file), "chunk_size": 128})
    assert sorted(entries) == [("chunk_size", ["128"], False), ("log_level", ["error"], False)]


@pytest.mark.parametrize("written", ["cache_dir: /a", "gds_config: {cache_dir: /a}"])
@pytest.mark.parametrize("inline", [{"cache_dir": "/b"}, {"gds_config": {"cache_dir": "/b"}}])
def test_an_inline_key_wins_however_each_is_written(tmp_path: Path, written: str, inline: dict):
    file = tmp_path / "penstock.yaml"
    file.write_text(written)
    config = Config.from_entries(entries_of({"config": str(file)} | inline))
    assert config.cache_dir == ["/b"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "must hold keys and values, not a list"),
        ("a: [1, 2\n", "is not valid YAML"),
        ("just text", "must hold keys and values, not a str"),
    ],
)
def test_refuses_a_file_that_is_no_mapping(tmp_path: Path, text: str, sentence: str):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_file(file)


def test_refuses_a_missing_file_and_odd_values(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="must be the path of a YAML file"):
        entries_of({"config": 3})
    with pytest.raises(ConfigError, match="a: None is neither"):
        flatten({"a": None})
    with pytest.raises(ConfigError, match="b: \\{'c': 1\\} is neither"):
        flatten({"b": [{"c": 1}]})
    with pytest.raises(ConfigError, match="is not a word"):
        flatten({1: 2})


def test_the_core_names_an_unknown_key_and_the_nearest_one(tmp_path: Path):
    with pytest.raises(PenstockError, match=r"chunk_sise.*chunk_size"):
        Config.from_entries(flatten({"cache_dir": str(tmp_path), "chunk_sise": 256}))


@pytest.mark.parametrize(
    "settings",
    [{"chunk_size": "many"}, {"chunk_size": -256}, {"use_async": 3}, {"max_cache_size_gb": -1}],
)
def test_the_core_refuses_a_wrong_type_and_a_negative_size(tmp_path: Path, settings: dict):
    (key,) = settings
    with pytest.raises(PenstockError, match=key):
        Config.from_entries(flatten({"cache_dir": str(tmp_path), **settings}))
