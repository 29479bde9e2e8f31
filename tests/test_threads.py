from pathlib import Path

import pytest

from hanpaca import threads


@pytest.mark.parametrize(
    ("average", "running", "expected"),
    [
        (0.1, 0.0, 8),
        (3.2, 3.0, 5),
        (20.0, 20.0, 1),
        (8.0, 0.2, 8),  # what this process did itself a moment ago
        (0.3, 6.0, 8),  # a moment's chance
    ],
)
def test_a_thread_for_each_free_core(
    average: float, running: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "num_cores", lambda: 8)
    monkeypatch.setattr("os.getloadavg", lambda: (average, 0.0, 0.0))
    monkeypatch.setattr(threads, "_running_now", lambda: running)
    monkeypatch.setattr(threads, "_RUNNING", tmp_path)
    large = tmp_path / "large.gguf"
    large.touch()
    monkeypatch.setattr(threads, "_RUNNING", large)
    with large.open("wb") as stream:
        stream.truncate(100_000_000)
    assert threads.free_threads(large) == expected


def test_a_small_model_gets_one(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert threads.free_threads(tmp_path / "small.gguf") == 1


def test_looking_needs_no_rights() -> None:
    assert threads.num_cores() >= 1
    assert threads._load() >= 0
