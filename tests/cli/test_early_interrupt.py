"""Ctrl-C while the program is still being loaded."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def test_ctrl_c_while_modules_are_loaded_is_one_line(tmp_path: Path) -> None:
    """A module that the command line loads sends the signal, so that no time is waited for."""
    package = tmp_path / "rich"
    package.mkdir()
    interrupted = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    (package / "__init__.py").write_text(interrupted, encoding="utf-8")
    places = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "hanpaca", "status", "."],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": places},
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    assert done.stderr == "hanpaca: stopped\n"
