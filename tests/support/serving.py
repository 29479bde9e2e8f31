"""`hanpaca serve` or `web` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

MAIN = "from hanpaca.cli import main; main()"


@dataclass
class Served:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]

    def num_processing(self, **headers: str) -> int:
        """Answers that are being written."""
        text = httpx2.get(self.url + "/metrics", headers=headers, timeout=120).text
        found = re.search(r"^llamacpp:requests_processing (\d+)", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def waits_until_idle(self, seconds: float) -> bool:
        """Whether no answer is being written after at most so long."""
        end = time.monotonic() + seconds
        while self.num_processing():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, float, str]:
        """End it; gives the exit status, the seconds it took, and what it said."""
        begun = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, time.monotonic() - begun, said


@contextmanager
def served(
    model: Path, *words: str, command: str = "serve", temporary: Path | None = None
) -> Iterator[Served]:
    """Serve a model with one thread at any free port for as long as the context lasts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    if temporary:
        environment["TMPDIR"] = str(temporary)
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, command, str(model), "--port", "0", "--threads", "1", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield Served(_url(process), process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"http://[\w.]+:\d+", line):
            return found[0]
    raise AssertionError(said)
