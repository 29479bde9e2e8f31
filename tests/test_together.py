"""Work that several processes share: the first goes on when all are through."""

import time
from pathlib import Path

import pytest

from tests.support.commands import python_together

SAID = "['work', 'written late']\ngroup left: False\n"
PROGRAM = """
import atexit, sys, time
from functools import partial
from pathlib import Path

import torch.distributed
from hanpaca.errors import DataError
from hanpaca.together import everyone, leads, together

atexit.register(lambda: print("group left:", torch.distributed.is_initialized()))

def work(folder, fault):
    torch.distributed.init_process_group("gloo")
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


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_folder_is_not_renamed_while_a_slower_process_writes_in_it(
    program: Path, tmp_path: Path
) -> None:
    for one in python_together(program, tmp_path / "folder"):
        assert (one.returncode, one.stdout) == (0, SAID), one.stderr


@pytest.mark.slow
def test_one_that_helps_and_fails_does_not_hold_up_the_first(program: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    first, _ = python_together(program, tmp_path / "folder", "fault")
    assert (first.returncode, first.stdout) == (0, SAID), first.stderr
    assert time.monotonic() - begun < 300
