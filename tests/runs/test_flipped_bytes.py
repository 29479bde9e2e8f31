"""One changed bit anywhere in a finished run is found by `verify`, which names file and stage."""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError, HanpacaError
from hanpaca.runs.folder import verify_run
from tests.support.commands import hanpaca

pytestmark = pytest.mark.slow

FLIPS_A_FILE = 25


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("flipped") / "run"
    shutil.copytree(finished, copy)
    return copy


@contextmanager
def flipped(file: Path, at: int) -> Iterator[None]:
    """One bit of a file, turned over and back."""
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[at // 8] ^= 1 << at % 8
    file.write_bytes(damaged)
    try:
        yield
    finally:
        file.write_bytes(whole)


def files_of(run: Path) -> list[Path]:
    return sorted(path for path in run.glob("*/**/*") if path.is_file() and path.stat().st_size)


def test_a_thousand_flipped_bits_are_each_found_by_file_and_stage(run: Path) -> None:
    chance, count = random.Random(0), 0
    for file in files_of(run):
        for _ in range(FLIPS_A_FILE):
            with flipped(file, chance.randrange(8 * file.stat().st_size)):
                with pytest.raises(ArtifactError) as found:
                    verify_run(run)
                assert str(file) in str(found.value)
                assert file.relative_to(run).parts[0] in str(found.value)
            count += 1
    assert count >= 1_000
    verify_run(run)


def test_a_file_removed_from_a_run_or_put_into_it_is_named(run: Path) -> None:
    for file in files_of(run):
        away = run / "away"
        file.rename(away)
        with pytest.raises(ArtifactError, match=file.name):
            verify_run(run)
        away.rename(file)
    more = run / "30-pretrain" / "more.bin"
    more.write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"more\.bin"):
        verify_run(run)
    more.unlink()


@pytest.mark.parametrize("name", ["manifest.json", "progress.json"])
def test_a_damaged_record_never_ends_in_a_traceback(run: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "50-sft").rename(copy / "50-sft.partial")
    place = copy / ("40-merged" if name == "manifest.json" else "50-sft.partial") / name
    for text in ("", "{", "[]", "null", json.dumps({"step": "x"}), "[" * 100_000, "\0"):
        place.write_text(text, encoding="utf-8")
        for command in ("verify", "status"):
            done = hanpaca(command, copy)
            assert done.returncode in (0, 4), done.stderr
            assert "Traceback" not in done.stderr


def test_a_damaged_model_is_refused_or_read_as_it_was(run: Path, tmp_path: Path) -> None:
    """Headers and configurations: what is believed must be what was written."""
    from hanpaca.merging import MergeOptions, plan_merge

    source, chance = run / "60-chat", random.Random(1)
    whole = plan_merge(source, [], MergeOptions())
    known = {(one.name, one.shape, one.dtype) for one in whole.tensors}
    header = 8 + int.from_bytes((source / "model.safetensors").read_bytes()[:8], "little")
    for _ in range(200):
        with flipped(source / "model.safetensors", chance.randrange(8 * header)):
            try:
                plan = plan_merge(source, [], MergeOptions())
            except HanpacaError:
                continue
            assert {(one.name, one.shape, one.dtype) for one in plan.tensors} == known
