"""What takes more memory than there is ends in one line, whichever library asked for it."""

from collections.abc import Callable

import pytest
import torch

from hanpaca import cli


def from_torch() -> None:
    torch.empty(1 << 60)


def from_python() -> None:
    bytearray(1 << 60)


@pytest.mark.parametrize("work", [from_torch, from_python])
def test_it_is_one_line(
    work: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", work)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 5
    assert capsys.readouterr().err == "hanpaca: this takes more memory than there is\n"


def test_other_faults_of_ours_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault() -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr(cli, "app", fault)
    with pytest.raises(RuntimeError, match="of the program"):
        cli.main()
