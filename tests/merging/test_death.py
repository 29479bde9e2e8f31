"""A merge that dies anywhere goes on to the same bytes, and a machine that refuses is one line."""

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanpaca.errors import ArtifactError, ResourceError
from hanpaca.merging import MergeOptions, MergePlan, merge_adapters, plan_merge, run_merge
from tests.support.merge_oracle import factors, prefixed, tables, write_adapter

SMALL = MergeOptions(max_shard_bytes=20_000)
CALLS: list[tuple[Any, str]] = [
    (os, "pwrite"),
    (os, "posix_fallocate"),
    (Path, "rename"),
    (Path, "write_text"),
    (Path, "unlink"),
    (shutil, "copyfile"),
]
"""All by which a merge changes the disk, beside making its folder."""


class Killed(BaseException):
    """What nothing catches, so that nothing is tidied up."""


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("death")
    return write_adapter(folder / "a", prefixed(factors() | tables(395)))


@pytest.fixture(scope="module")
def whole(adapter: Path, pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    merge_adapters(pico_base, [adapter], output, options=SMALL)
    return output


def patched(
    patch: pytest.MonkeyPatch, before: Callable[[str], None], only: tuple[str, ...] = ()
) -> None:
    """Have `before` called with the name of a call before it is made."""
    for owner, name in CALLS:
        real = getattr(owner, name)

        def wrapped(*given: Any, real: Any = real, name: str = name, **named: Any) -> Any:
            before(name)
            return real(*given, **named)

        if not only or name in only:
            patch.setattr(owner, name, wrapped)


def die_at(plan: MergePlan, output: Path, number: int) -> bool:
    """Run a merge that is gone before its nth change of the disk; False if it has fewer."""
    left = number

    def before(name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patched(patch, before)
        try:
            run_merge(plan, output)
        except Killed:
            return True
    return False


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(deaths=st.lists(st.integers(0, 70), min_size=1, max_size=3))
def test_however_often_it_dies_the_bytes_are_the_same(
    deaths: list[int],
    adapter: Path,
    pico_base: Path,
    whole: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    output = tmp_path_factory.mktemp("died") / "out"
    plan = plan_merge(pico_base, [adapter], SMALL)
    for number in deaths:
        if output.exists():
            break
        assert die_at(plan, output, number) != output.exists()
    if not output.exists():
        run_merge(plan, output)
    assert contents(output) == contents(whole)
    assert [path.name for path in output.parent.iterdir()] == ["out"]


ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES]


@pytest.mark.parametrize("number", ERRORS, ids=[errno.errorcode[number] for number in ERRORS])
@pytest.mark.parametrize("call", [name for _, name in CALLS])
def test_a_refusal_of_the_system_is_one_line_and_leaves_nothing(
    call: str, number: int, adapter: Path, pico_base: Path, tmp_path: Path
) -> None:
    def refuse(name: str) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patched(patch, refuse, (call,))
        with pytest.raises(ResourceError, match=rf"{os.strerror(number)}; nothing was kept"):
            run_merge(plan_merge(pico_base, [adapter], SMALL), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_read_names_the_file(
    adapter: Path, pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_merge(pico_base, [adapter], SMALL)

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", refuse)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot be read: Input/output"):
        run_merge(plan, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_told(adapter: Path, pico_base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="Not a directory"):
        run_merge(plan_merge(pico_base, [adapter], SMALL), tmp_path / "file" / "out")


@pytest.mark.slow
def test_a_real_limit_on_files_is_told(adapter: Path, pico_base: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    arguments = ["--base", pico_base, "--adapter", adapter, "--output", tmp_path / "out"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from hanpaca.cli import main; main()",
            "merge",
            *map(str, arguments),
        ],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "File too large; nothing was kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_is_killed_at_any_time_again_and_again(
    adapter: Path, pico_base: Path, whole: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from hanpaca.merging import MergeOptions, merge_adapters\n"
        "print('here', flush=True)\n"
        "def slow(done, total): time.sleep(0.02)\n"
        "base, adapter, out = map(Path, sys.argv[1:])\n"
        "merge_adapters(base, [adapter], out, options=MergeOptions(max_shard_bytes=20_000),"
        " on_bytes=slow)"
    )
    output = tmp_path / "out"
    chance = random.Random(0)
    for _ in range(4):
        arguments = [str(pico_base), str(adapter), str(output)]
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))
            run.kill()
        assert not output.exists() or contents(output) == contents(whole)
        shutil.rmtree(output, ignore_errors=True)
    merge_adapters(pico_base, [adapter], output, options=SMALL)
    assert contents(output) == contents(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
