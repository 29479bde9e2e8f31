"""The engine listens, as llama.cpp's server always does, where nobody else can reach it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanpaca.errors import ArtifactError
from hanpaca.inference.engine import ChatModel
from tests.support.serving import MAIN


def listening(pid: int, *options: str) -> str:
    done = subprocess.run(["ss", *options], check=True, capture_output=True, text=True)
    return "\n".join(line for line in done.stdout.splitlines() if f"pid={pid}," in line)


@pytest.mark.skipif(shutil.which("ss") is None, reason="ss is not installed")
def test_a_chat_listens_on_no_tcp_port_and_leaves_no_folder(
    scripted_gguf: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "chat", str(scripted_gguf), "--threads", "1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "tokens of context" in process.stderr.readline()
        assert listening(process.pid, "-ltnp") == ""
        assert "e.sock" in listening(process.pid, "-lxp")  # so ss does see this process
        assert list(tmp_path.iterdir()) == []
        process.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_private_and_goes_when_loading_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    import xllamacpp

    seen: list[int] = []

    def refuse(params: xllamacpp.CommonParams) -> None:
        folder = Path(params.hostnames[0]).parent
        assert params.hostnames[0].endswith(".sock")
        seen.append(folder.stat().st_mode & 0o777)
        raise RuntimeError("no")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(xllamacpp, "Server", refuse)
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ArtifactError, match="cannot load"):
        ChatModel(tmp_path / "a.gguf")
    assert seen == [0o700]
    assert [one.name for one in tmp_path.iterdir()] == ["a.gguf"]


def test_a_long_path_for_temporary_files_does_not_matter(
    scripted_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with ChatModel(scripted_gguf, num_threads=1) as model:
        assert model.answer([{"role": "user", "content": "问"}]).text


def test_closing_waits_for_nobody(scripted_gguf: Path) -> None:
    model = ChatModel(scripted_gguf, num_threads=1)
    before = time.monotonic()
    with model:
        next(model.stream([{"role": "user", "content": "问"}]))
    assert time.monotonic() - before < 15


OFTEN = """
import sys
from pathlib import Path
from hanpaca.inference.engine import ChatModel
for _ in range(40):
    with ChatModel(Path(sys.argv[1]), num_threads=1):
        pass
"""


def test_a_model_closed_as_soon_as_it_is_loaded_does_not_hang(scripted_gguf: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OFTEN, str(scripted_gguf)]
    subprocess.run(command, check=True, timeout=240, env=environment)
