"""Commands as a user gives them: in a process of their own, or in several as by `torchrun`.

One process loads the libraries and waits; each command runs in a fork of it, so that it costs a
fraction of a second and not a start of Python. A fork takes folder and environment of the test, and
kills itself where it is told to: before the change of the disk of a number (files opened to be
written, renames, removals, folders made, by Python's audit events), or where it opens a name.
"""

import atexit
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from select import select

_SERVER = """
import atexit, json, os, signal, sys
import torch, transformers, peft
import hanpaca.steps.pretrain, hanpaca.steps.sft
from hanpaca.cli import main

torch.set_num_threads(1)
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.copyfile"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

def child(order, environment, log, dies):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(order["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    changes = 0
    def hook(event, given):
        nonlocal changes
        opened = event == "open" and isinstance(given[2], int) and given[2] & WRITING
        if event in CHANGES or opened:
            changes += 1
            if dies and order["dies_before"] is not None and changes > order["dies_before"]:
                os.kill(os.getpid(), signal.SIGKILL)
        if dies and order["dies_at"] and event in ("open", "os.mkdir"):
            if order["dies_at"] in str(given[0]):
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    sys.argv = ["hanpaca", *order["arguments"]]
    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        seen = changes
        with open(f"{log}.changes", "w") as file:
            file.write(str(seen))
        os._exit(status)

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    pids = []
    for rank, environment in enumerate(order["environments"]):
        pid = os.fork()
        if pid == 0:
            last = rank + 1 == len(order["environments"])
            child(order, environment, f"{order['log']}.{rank}", last)
        pids.append(pid)
    ended = [os.waitpid(pid, 0)[1] for pid in pids]
    print(json.dumps([os.waitstatus_to_exitcode(status) for status in ended]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended: -9 if it was killed; how often it changed the disk if not."""

    returncode: int
    stdout: str
    stderr: str
    changes: int


class _Forks:
    """The process that waits, in a session of its own so that all that it began ends with it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hanpaca-commands-")
        self.server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        assert self._answer(300) == "ready"
        atexit.register(self.end)

    def end(self) -> None:
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.communicate()
        self.folder.cleanup()

    def _answer(self, seconds: float) -> str:
        assert self.server.stdout is not None
        if not select([self.server.stdout], [], [], seconds)[0]:
            _forks.cache_clear()
            self.end()
            raise TimeoutError(f"no end in {seconds:.0f} s")
        return self.server.stdout.readline().strip()

    def run(self, order: Mapping[str, object], number: int, timeout: float) -> list[Ended]:
        log = f"{self.folder.name}/log"
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps({**order, "log": log}) + "\n")
        self.server.stdin.flush()
        statuses = json.loads(self._answer(timeout))
        return [_ended(status, f"{log}.{rank}") for rank, status in enumerate(statuses)]


def _ended(status: int, log: str) -> Ended:
    out, error = (Path(f"{log}.{name}").read_text(encoding="utf-8") for name in ("out", "error"))
    changes = int(Path(f"{log}.changes").read_text(encoding="utf-8")) if status >= 0 else 0
    return Ended(status, out, error, changes)


@cache
def _forks() -> _Forks:
    return _Forks()


def hanpaca(*arguments: object, timeout: float = 600, dies_before: int | None = None) -> Ended:
    """Run a command; with `dies_before` it is killed before that change of the disk."""
    return _run(arguments, [{}], timeout, dies_before=dies_before)[0]


def ends_well(*arguments: object) -> Ended:
    """Run a command that must do what it is asked."""
    done = hanpaca(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def dies(*arguments: object, before: int) -> bool:
    """Run a command that is killed before its change of this number; False if it ended well."""
    done = hanpaca(*arguments, dies_before=before)
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode != 0


def hanpaca_together(*arguments: object, processes: int, dies_at: str = "") -> list[Ended]:
    """Run a command in so many processes, as `torchrun` starts them.

    The last one is killed where it opens a file, or makes a folder, whose name holds `dies_at`.
    """
    return _run(arguments, _ranks(processes) if processes > 1 else [{}], 600, dies_at=dies_at)


def python_together(program: Path, *arguments: object) -> list[subprocess.CompletedProcess[str]]:
    """Run a Python program in two processes, as `torchrun` starts them."""
    command = [sys.executable, str(program), *map(str, arguments)]
    begun = [
        subprocess.Popen(
            command,
            env={**os.environ, **place},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in _ranks(2)
    ]
    try:
        said = [one.communicate(timeout=600) for one in begun]
    finally:
        for one in begun:
            one.kill()
            one.wait()
    return [
        subprocess.CompletedProcess(command, one.returncode, *told)
        for one, told in zip(begun, said, strict=True)
    ]


def _ranks(processes: int) -> list[dict[str, str]]:
    """What `torchrun` tells each process by its environment."""
    common = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def _run(
    arguments: Sequence[object],
    environments: Sequence[Mapping[str, str]],
    timeout: float,
    *,
    dies_before: int | None = None,
    dies_at: str = "",
) -> list[Ended]:
    order = {
        "arguments": [str(one) for one in arguments],
        "environments": [{**os.environ, **one} for one in environments],
        "folder": str(Path.cwd()),
        "dies_before": dies_before,
        "dies_at": dies_at,
    }
    return _forks().run(order, len(environments), timeout)


def free_port() -> int:
    """A port nobody listens on, of those that the system gives to nobody who asks for any."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
