"""A command in a pseudo-terminal, as a person has it before them."""

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Mapping

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x08")
"""What moves the cursor and colours text."""


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        code = "from hanpaca.cli import main; main()"
        self.shown = ""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            # A shell starts what it puts into the background with Ctrl-C ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(
                sys.executable,
                [sys.executable, "-c", code, *words],
                {
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "PROMPT_TOOLKIT_NO_CPR": "1",  # nobody answers here where the cursor is
                    "TERM": "dumb",
                    **(environment or {}),
                },
            )

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def wait_for(self, pattern: str, seconds: float = 240) -> str:
        """Take what is shown up to and with `pattern`."""
        deadline, raw = time.monotonic() + seconds, b""
        while not (found := re.search(pattern, self.shown, re.S)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not shown: {self.shown[-500:]!r}"
            if select.select([self.screen], [], [], left)[0]:
                try:
                    raw += os.read(self.screen, 65_536)
                except OSError:
                    raw += b"<closed>"
                text = raw.decode(errors="ignore")
                raw = raw[len(text.encode()) :]
                self.shown = _CONTROL.sub("", self.shown + text)
        taken, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return taken

    def interrupt(self, pattern: str) -> None:
        """Press Ctrl-C until `pattern` is shown: Python loses one that comes just before a read."""
        for _ in range(20):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.wait_for(pattern, seconds=10)
                return
        self.wait_for(pattern, seconds=10)

    def end(self, seconds: float = 120) -> int:
        """Wait until it is gone: its status."""
        deadline = time.monotonic() + seconds
        while True:
            gone, status = os.waitpid(self.pid, os.WNOHANG)
            if gone:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"it does not end: {self.shown[-500:]!r}"
            time.sleep(0.05)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.screen)
