"""A vLLM engine in a process of its own, stopped (SIGSTOP) while it has no prompt to serve.

Several engines on the same cores would disturb each other; so only one runs at a time, and prompts
alternate between them. The child answers a line of JSON with one; see answer_requests(). tests/vllm
has to be on the path of whoever imports this.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driver import environment

ROOT = Path(__file__).resolve().parents[1]
_READY = "ready\n"


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def answer_requests(make: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """The child's side: makes the engine, then serves one request after the other until the
    parent closes it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to stdout too
    serve = make()
    print(_READY, end="", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


class PausedEngine:
    """`arguments`: of the child, a program that calls answer_requests(). Its output goes to `log`.
    Ends this program with the log's end if the child does not do as it should."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        path = os.pathsep.join([str(ROOT / "build" / "python"), os.environ.get("PYTHONPATH", "")])
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                env=os.environ | environment(multiprocessing=False) | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        atexit.register(self._process.kill)  # one that is stopped would not see its input close
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        if self._out.readline() != _READY:
            self._fail()
        self._process.send_signal(signal.SIGSTOP)

    def serve(self, request: dict[str, Any], rest: float = 0.0) -> dict[str, Any]:
        """`rest`: seconds that it goes on after its answer."""
        self._process.send_signal(signal.SIGCONT)
        print(json.dumps(request), file=self._in, flush=True)
        answer = self._out.readline()
        if not answer:
            self._fail()
        time.sleep(rest)
        self._process.send_signal(signal.SIGSTOP)
        return json.loads(answer)

    def close(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._in.close()
        self._process.wait(timeout=60)

    def _fail(self) -> None:
        sys.exit(f"the engine did not end well:\n{self._log.read_text()[-4000:]}")
