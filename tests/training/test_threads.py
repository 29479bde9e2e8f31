"""A training takes as many threads as suit it, keeps to them when it goes on, and says so."""

from pathlib import Path

import pytest
import torch

from hanpaca.errors import ArtifactError
from hanpaca.files import CHECKPOINTS
from hanpaca.progress import Progress, silent
from hanpaca.training import threads
from hanpaca.training.threads import training_threads


def test_a_small_model_is_trained_by_one_thread_and_it_is_said(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    told: list[Progress] = []
    with training_threads(pico_base, tmp_path, told.append) as chosen:
        assert chosen == 1
    assert told[0].note.startswith("training takes 1 of ")


def test_pytorch_has_its_threads_back_afterwards(pico_base: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), training_threads(pico_base, tmp_path, silent):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


def test_what_goes_on_takes_as_many_as_it_began_with(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for free, expected in ((3, 3), (1, 3), (8, 3)):
        monkeypatch.setattr(threads, "threads_for", lambda num_bytes, free=free: free)
        with training_threads(pico_base, tmp_path, silent) as chosen:
            assert chosen == expected


def test_the_environments_limit_holds(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "threads_for", lambda num_bytes: 16)
    with training_threads(pico_base, tmp_path, silent) as chosen:
        assert chosen == 2


@pytest.mark.parametrize("kept", ["", "0", "-1", "two", "99999999999", "\u0662"])
def test_a_damaged_number_is_named(kept: str, pico_base: Path, tmp_path: Path) -> None:
    file = tmp_path / CHECKPOINTS / "threads"
    file.parent.mkdir()
    file.write_text(kept, encoding="utf-8")
    with (
        pytest.raises(ArtifactError, match="threads: holds"),
        training_threads(pico_base, tmp_path, silent),
    ):
        pass
