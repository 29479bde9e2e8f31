"""Reads past the page cache give the same bytes, and give way where they cannot be had."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanpaca.checkpoints import direct
from hanpaca.checkpoints.rows import OpenFiles
from hanpaca.merging import MergeOptions, merge_adapters
from tests.support.merge_oracle import (
    check,
    expected,
    factors,
    load_base,
    prefixed,
    tables,
    write_adapter,
)

SIZE = 3 * direct._WINDOW_BYTES // 2 + 123


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every read go past the cache."""
    monkeypatch.setattr(direct, "MIN_BYTES", 1)
    monkeypatch.setattr(direct, "_is_cached", lambda descriptor: False)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "file"
    file.write_bytes(os.urandom(SIZE))
    return file


@pytest.mark.usefixtures("eager")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(places=st.lists(st.tuples(st.integers(0, SIZE + 9000), st.integers(1, 1 << 20)), min_size=1))
def test_any_place_gives_the_bytes_of_the_file(places: list[tuple[int, int]], large: Path) -> None:
    whole = large.read_bytes()
    with OpenFiles() as files:
        for at, size in places:
            buffer = bytearray(size)
            count = files.read(large, memoryview(buffer), at)
            assert count == 0 if at >= SIZE else count > 0
            assert buffer[:count] == whole[at : at + count]
        again = bytearray(size)
        os.truncate(large, SIZE)  # the same size: the file is as it was
        assert files.read(large, memoryview(again), SIZE) == 0


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("form", ["hf", "pth"])
def test_a_merge_has_the_same_bits(form: str, pico_untied: Path, tmp_path: Path) -> None:
    state = factors() | tables(395)
    adapter = write_adapter(tmp_path / "a", prefixed(state))
    options = MergeOptions(format=form, num_files=2)  # type: ignore[arg-type]
    merge_adapters(pico_untied, [], tmp_path / "base", options=options)
    merge_adapters(tmp_path / "base", [adapter], tmp_path / "out")
    check(tmp_path / "out", expected(load_base(pico_untied), state, 10 / 4))


@pytest.mark.parametrize("call", ["open", "preadv"])
@pytest.mark.usefixtures("eager")
def test_a_file_system_without_them_is_read_as_ever(
    call: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, real_read = os.open, os.preadv
    refused: set[int] = set()

    def opens(file: Path, flags: int) -> int:
        if flags & os.O_DIRECT and call == "open":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        descriptor = real_open(file, flags)
        if flags & os.O_DIRECT:
            refused.add(descriptor)
        return descriptor

    def reads(descriptor: int, buffers: list[memoryview], at: int) -> int:
        if descriptor in refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real_read(descriptor, buffers, at)

    monkeypatch.setattr(os, "open", opens)
    monkeypatch.setattr(os, "preadv", reads)
    buffer = bytearray(1000)
    with OpenFiles() as files:
        assert files.read(large, memoryview(buffer), 77) == 1000
    assert buffer == large.read_bytes()[77:1077]


def test_what_is_in_memory_is_read_from_there(large: Path) -> None:
    large.read_bytes()
    with OpenFiles() as files:
        files.read(large, memoryview(bytearray(1)), 0)
        assert files.descriptors[large][1] is None
