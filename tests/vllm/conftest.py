"""Runs scenarios as processes of their own, each at most once a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import environment

LIMIT = 420  # seconds for one process


class Engines:
    """Starts engine processes in one work directory and keeps what they saw."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._seen: dict[str, dict[str, Any]] = {}

    def start(
        self,
        scenario: str,
        *,
        multiprocessing: bool = False,
        ranks: int = 1,
        extra_environment: dict[str, str] | None = None,
        extra_path: str | None = None,
        **arguments: Any,
    ) -> subprocess.Popen[str]:
        variables = os.environ | environment(multiprocessing or ranks > 1, ranks)
        variables |= extra_environment or {}
        variables["PYTHONPATH"] = os.pathsep.join([extra_path or "", *sys.path])
        return subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / "scenarios.py"),
                scenario,
                str(self.work),
                str(self._out(scenario)),
                *(f"{key}={json.dumps(value)}" for key, value in arguments.items()),
            ],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, scenario: str, **arguments: Any) -> dict[str, Any]:
        """What a scenario saw; fails the test with the process's output if it did not end well."""
        out = self._out(scenario)
        out.unlink(missing_ok=True)
        process = self.start(scenario, **arguments)
        try:
            log, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            log, _ = process.communicate()
            pytest.fail(f"{scenario} did not end in {LIMIT} s:\n{log[-8000:]}")
        if not out.exists():
            pytest.fail(f"{scenario} ended with {process.returncode}:\n{log[-8000:]}")
        return json.loads(out.read_text()) | {"log": log}

    def once(self, scenario: str, **arguments: Any) -> dict[str, Any]:
        if scenario not in self._seen:
            self._seen[scenario] = self.run(scenario, **arguments)
        return self._seen[scenario]

    def refusal(self, scenario: str, **arguments: Any) -> str:
        """The output of a process that must not start."""
        out = self._out(scenario)
        out.unlink(missing_ok=True)
        log, _ = self.start(scenario, **arguments).communicate(timeout=LIMIT)
        assert not out.exists(), f"{scenario} started:\n{log[-4000:]}"
        return log

    def _out(self, scenario: str) -> Path:
        return self.work / f"{scenario}.json"


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    yield Engines(tmp_path_factory.mktemp("vllm"))


@pytest.fixture
def same() -> Callable[[list[dict], list[dict]], None]:
    """Asserts that two runs generated the same: tokens equal, log-probabilities within 1e-4."""

    def check(one: list[dict], other: list[dict]) -> None:
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert a["tokens"] == b["tokens"], f"prompt of {a['prompt']} tokens"
            apart = max(abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"], strict=True))
            assert apart <= 1e-4, f"prompt of {a['prompt']} tokens: {apart}"

    return check
