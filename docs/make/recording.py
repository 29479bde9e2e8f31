"""A terminal session as an SVG that plays once, with the waits that there were.

Each line appears after the time it really took, no more than two seconds a line; what is shown is
what the commands wrote. Rich lays the text out.
"""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 96
_MOST_SECONDS = 2.0
_TYPING_SECONDS = 1.2
_MOVES = re.compile(r"\x1b\[\??[\d;]*[A-HJKhlsu]")
"""What moves the cursor, which a picture has not; colours stay."""
_FONTS = re.compile(r"@font-face\s*{.*?}\s*", re.DOTALL)
"""Rich's, which would be loaded from elsewhere."""


def record(commands: Sequence[str], folder: Path, title: str) -> str:
    """Run commands one after the other, and draw what they write.

    Raises:
        subprocess.CalledProcessError: One failed.
    """
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    delays: list[float] = []

    def show(line: Text, seconds: float) -> None:
        rows = line.wrap(console, WIDTH)
        for number, row in enumerate(rows):
            console.print(row)
            delays.append(0.0 if number else min(seconds, _MOST_SECONDS))

    for command in commands:
        show(Text.assemble(("$ ", "bold green"), (command, "bold")), _TYPING_SECONDS)
        for text, seconds in _lines(command, folder):
            show(Text.from_ansi(text), seconds)
        show(Text(""), 0.0)
    svg = _FONTS.sub("", console.export_svg(title=title, unique_id="shown"))
    return svg.replace("</style>", _playing(delays) + "</style>", 1)


def _lines(command: str, folder: Path) -> Iterator[tuple[str, float]]:
    """What a command writes in a terminal, by lines, each with the seconds it came after."""
    screen, end = pty.openpty()
    settings = {"COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        env=os.environ | settings | {"PATH": path},
    ) as process:
        os.close(end)
        begun = time.monotonic()
        with os.fdopen(screen, "rb", buffering=0) as stream:
            for line in _read(stream.fileno()):
                shown = _MOVES.sub("", line.decode(errors="replace")).split("\r")[-1]
                yield shown, time.monotonic() - begun
                begun = time.monotonic()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _read(screen: int) -> Iterator[bytes]:
    """Lines of a terminal, until nobody writes to it."""
    rest = b""
    while True:
        try:
            data = os.read(screen, 65_536)
        except OSError:  # Linux says so when the other end is closed
            data = b""
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.rstrip(b"\r") for line in lines)
        if not data:
            return


def _playing(delays: Sequence[float]) -> str:
    """Style sheet by which each line appears when its time has come."""
    rules, now = ["@keyframes appear { from { opacity: 0 } to { opacity: 1 } }"], 0.0
    for number, delay in enumerate(delays):
        now += delay
        rules.append(
            f'[clip-path="url(#shown-line-{number})"] {{ animation: appear .01s {now:.2f}s both }}'
        )
    return "\n".join(rules) + "\n"
