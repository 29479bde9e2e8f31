"""Pictures of the documentation are small, and a recording shows what a command wrote, and when."""

import re
import subprocess
from pathlib import Path

import pytest

from docs.make.recording import record

PICTURES = Path(__file__).parents[2] / "docs/pictures"
MOST_BYTES = 300_000


def test_the_pictures_are_there_and_small() -> None:
    names = {file.name: file.stat().st_size for file in PICTURES.iterdir()}
    assert names.keys() == {"report.png", "terminal.svg", "web.png"}
    assert sum(names.values()) < MOST_BYTES


def test_a_recording_shows_what_a_command_writes_line_by_line(tmp_path: Path) -> None:
    svg = record(["echo 白日依山尽; sleep .3; echo 黄河入海流"], tmp_path, "poem")
    assert "白日依山尽" in svg
    assert "黄河入海流" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "").replace(
        "https://www.textualize.io", ""
    )
    begun = [float(one) for one in re.findall(r"appear \.01s ([\d.]+)s", svg)]
    assert begun == sorted(begun)
    assert begun[2] - begun[1] >= 0.3


def test_a_command_that_fails_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        record(["exit 3"], tmp_path, "nothing")
