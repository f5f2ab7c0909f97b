"""The wheel in an environment of its own, beside a vLLM that it did not bring.

The environment sees the packages of this one through a .pth file, as a user's has vLLM installed;
nothing of the source tree is on its path.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Of glibc and the compiler; all else is linked statically.
SYSTEM = {
    "linux-vdso",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "libc",
    "libm",
    "libstdc++",
    "libgcc_s",
}

# Builds the core once more: minutes.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]


def run(*command: object, cwd: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PENSTOCK_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the new environment, with the wheel in it."""
    work = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", ".", "--no-deps", "--wheel-dir", work, cwd=ROOT)
    (wheel,) = work.glob("penstock-*.whl")
    root = work / "env"
    run(sys.executable, "-m", "venv", "--without-pip", root, cwd=work)
    (packages,) = root.glob("lib/python3*/site-packages")
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(
        *pip, "--python", root / "bin/python", "install", "--no-deps", "--no-index", wheel, cwd=work
    )
    return root


def python(installed: Path, code: str) -> str:
    lines = run(installed / "bin/python", "-c", code, cwd=installed).splitlines()
    return lines[-1]  # vLLM's own lines come first


def test_the_command_runs(installed: Path) -> None:
    assert "penstock doctor" in run(installed / "bin/penstock", "--help", cwd=installed)


def test_the_extension_is_the_wheels_and_stands_alone(installed: Path) -> None:
    core = Path(python(installed, "import penstock._core as core; print(core.__file__)"))
    assert core.is_relative_to(installed)
    programs = [core.parent / "penstock-probe", installed / "bin/penstock"]
    assert all(os.access(program, os.X_OK) for program in programs)
    for file in (core, *programs):
        needed = {
            Path(line.split()[0]).name.split(".so")[0]
            for line in run("ldd", file, cwd=installed).splitlines()
        }
        assert needed <= SYSTEM, f"{file.name} needs {needed - SYSTEM}"


def test_vllm_knows_the_connector_by_its_name(installed: Path) -> None:
    name = python(
        installed,
        "from vllm.plugins import load_general_plugins\n"
        "load_general_plugins()\n"
        "from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory\n"
        "found = KVConnectorFactory.get_connector_class_by_name('PenstockConnector')\n"
        "import sys\n"
        "print(found.__name__, sys.modules[found.__module__].__file__)",
    )
    found, file = name.split()
    assert found == "PenstockConnector"
    assert Path(file).is_relative_to(installed)
