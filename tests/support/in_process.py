"""Commands in this process: quicker by seconds where many are tried."""

import sys
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from hanpaca.cli import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    status: int
    out: str
    error: str

    @property
    def last_line(self) -> str:
        """Of what it said beside its result: the reason, where it failed."""
        return self.error.strip().splitlines()[-1] if self.error.strip() else ""


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> Said:
    """Run a command as a user gives it; what is no deliberate error is raised."""
    capsys.readouterr()
    with patch.object(sys, "argv", ["hanpaca", *map(str, arguments)]):
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    told = capsys.readouterr()
    return Said(status, told.out, told.err)
