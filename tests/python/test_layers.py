"""The house rules that can be checked by reading: layers include only downward, small files."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Bottom up, as in docs/ARCHITECTURE.md.
LAYERS = [
    *("base", "config", "metrics", "key", "codec"),
    *("io", "device", "store", "mover", "engine", "cli"),
]
MAX_LINES = 500


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.[ch]pp")]
    assert found, folders
    return found


def includes(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


def layer_violations(path: Path, text_includes: list[str]) -> list[str]:
    own = LAYERS.index(path.relative_to(ROOT / "src").parts[0])
    bad = []
    for include in text_includes:
        folder = include.split("/")[0]
        if folder == "penstock":
            continue
        if folder not in LAYERS or LAYERS.index(folder) > own:
            bad.append(f"{path.relative_to(ROOT)} includes {include}")
    return bad


def test_every_folder_of_src_is_a_layer():
    folders = {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}
    assert folders == set(LAYERS)


def test_a_layer_includes_only_itself_and_what_stands_below_it():
    bad = [line for path in sources("src") for line in layer_violations(path, includes(path))]
    assert not bad, "\n".join(bad)


def test_the_check_sees_an_upward_include():
    path = ROOT / "src" / "base" / "log.cpp"
    assert layer_violations(path, ["store/store.hpp"])
    assert not layer_violations(path, ["base/log.hpp"])


def test_public_headers_include_only_public_headers():
    bad = [
        f"{path.name} includes {include}"
        for path in sources("include")
        for include in includes(path)
        if not include.startswith("penstock/")
    ]
    assert not bad, "\n".join(bad)


def test_the_core_knows_no_python_and_no_engine():
    words = re.compile(r"vllm|torch|Python\.h|nanobind", re.IGNORECASE)
    comments_and_texts = re.compile(r'//.*|"[^"\n]*"')
    bad = [
        path.name
        for path in sources("src", "include")
        if words.search(comments_and_texts.sub("", path.read_text()))
    ]
    assert not bad, bad


def test_files_stay_small():
    paths = sources("src", "include", "bindings", "tests", "bench", "examples")
    paths += list((ROOT / "python").rglob("*.py"))
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    large = [
        f"{path.relative_to(ROOT)}: {count}" for path, count in lengths.items() if count > MAX_LINES
    ]
    assert not large, "\n".join(large)


def test_every_header_says_what_it_is():
    silent = [
        str(path.relative_to(ROOT))
        for path in sources("src", "include")
        if path.suffix == ".hpp" and not path.read_text().startswith("// ")
    ]
    assert not silent, "\n".join(silent)
