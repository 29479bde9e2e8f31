"""Work that several processes share: the first goes on when all are through."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import free_port

PROGRAM = """
import os, sys, time
from functools import partial
from pathlib import Path

from hanpaca.errors import DataError
from hanpaca.together import everyone, leads, together

def work(folder, fault):
    if not leads():
        time.sleep(1)
        (folder / "written late").touch()
        if fault:
            raise DataError("a helper alone cannot")

@together
def verb(folder, fault):
    everyone(partial(work, folder, fault), folder / "work")
    folder.rename(folder.with_name("output"))
    return sorted(path.name for path in folder.with_name("output").iterdir())

print(verb(Path(sys.argv[1]), len(sys.argv) > 2))
"""


def in_two(program: Path, *arguments: object) -> list[tuple[int, str, str]]:
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(program), *map(str, arguments)]
    begun = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [one.communicate(timeout=200) for one in begun]
    return [(one.returncode, *told) for one, told in zip(begun, said, strict=True)]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_folder_is_not_renamed_while_a_slower_process_writes_in_it(
    program: Path, tmp_path: Path
) -> None:
    for status, printed, fault in in_two(program, tmp_path / "folder"):
        assert (status, printed) == (0, "['work', 'written late']\n"), fault


@pytest.mark.slow
def test_one_that_helps_and_fails_does_not_hold_up_the_first(program: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    (status, printed, said), _ = in_two(program, tmp_path / "folder", "fault")
    assert (status, printed) == (0, "['work', 'written late']\n"), said
    assert time.monotonic() - begun < 50
