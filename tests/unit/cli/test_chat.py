"""The chat in a real terminal, with a model whose every answer is known beforehand.

Its layers do nothing and its head says which token follows which, so it writes what is scripted:
Chinese characters, three tokens each, as SmolLM2 writes the rarer ones.
"""

import contextlib
import itertools
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hanpaca.inference.llama import ChatModel
from hanpaca.pipeline.formats import folder_to_gguf

ANSWER = "你春秋"
"""No byte of it comes twice, so that each has one successor."""
END = "<|im_end|>"


def scripted_model(tokenizer: Path, folder: Path, *, last: str) -> Path:
    """A GGUF file that answers with `ANSWER` and then `last`: the end, or the beginning again."""
    shutil.copytree(tokenizer, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    encode = AutoTokenizer.from_pretrained(folder).encode
    ids = [*encode("\n"), *encode(ANSWER), *encode(last)]
    assert len(ids) == 1 + len(ANSWER.encode()) + 1
    vocab_size, size = 394, 400
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in (layer := model.model.layers[0]).parameters():
            parameter.zero_()
        layer.input_layernorm.weight.fill_(1)
        layer.post_attention_layernorm.weight.fill_(1)
        model.model.embed_tokens.weight.copy_(torch.eye(vocab_size, size))
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(ids):
            model.lm_head.weight[following, token] = 10
    model.bfloat16().save_pretrained(folder)
    file = folder.with_suffix(".gguf")
    folder_to_gguf(folder, file, file_type="f16", metadata={})
    return file


@pytest.fixture(scope="module")
def short(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It answers and stops."""
    return scripted_model(pico_base, tmp_path_factory.mktemp("short") / "short", last=END)


@pytest.fixture(scope="module")
def endless(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It goes on and on."""
    folder = tmp_path_factory.mktemp("endless")
    return scripted_model(pico_base, folder / "endless", last="\n")


class Terminal:
    """A program in a pseudo-terminal."""

    def __init__(self, *words: str) -> None:
        code = "from hanpaca.cli import main; main()"
        self.shown = ""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            # A shell starts what it puts into the background with Ctrl-C ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(
                sys.executable,
                [sys.executable, "-c", code, *words],
                {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """Take what is shown up to and with `pattern`."""
        deadline, raw = time.monotonic() + seconds, b""
        while not (found := re.search(pattern, self.shown, re.S)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not shown: {self.shown[-500:]!r}"
            if select.select([self.screen], [], [], left)[0]:
                try:
                    raw += os.read(self.screen, 65_536)
                except OSError:
                    raw += b"<closed>"
                text = raw.decode(errors="ignore")
                raw = raw[len(text.encode()) :]
                self.shown += text
        taken, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return taken

    def end(self, seconds: float = 30) -> int:
        """Wait until it is gone: its status."""
        deadline = time.monotonic() + seconds
        while True:
            gone, status = os.waitpid(self.pid, os.WNOHANG)
            if gone:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"it does not end: {self.shown[-500:]!r}"
            time.sleep(0.05)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.screen)


@pytest.fixture
def opened() -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def test_a_character_split_across_tokens_comes_whole(short: Path) -> None:
    with ChatModel(short, context_tokens=256) as model:
        question = [{"role": "user", "content": "问"}]
        assert list(model.stream(question)) == list(ANSWER)
        answer = model.answer(question)
        assert (answer.text, answer.num_tokens, answer.stopped) == (ANSWER, 10, True)
        # Cut inside the second character: what is left of it is not shown.
        for most, expected in ((3, "你"), (4, "你"), (5, "你"), (6, "你春")):
            cut = model.answer(question, max_tokens=most)
            assert (cut.text, cut.stopped) == (expected, False)
            assert "".join(model.stream(question, max_tokens=most)) == expected


def test_a_conversation_of_several_turns(short: Path, opened: list[Terminal]) -> None:
    opened.append(terminal := Terminal("chat", str(short), "--context-tokens", "512"))
    terminal.wait_for("/exit leaves; Ctrl-C stops an answer.*› ")
    for question in ("你好", "再来一次", "/system 短", "第三"):
        terminal.type(f"{question}\n")
        shown = terminal.wait_for("› ")
        assert (f"{ANSWER}\r\n" in shown) == (not question.startswith("/"))
        assert "\ufffd" not in shown
    terminal.type("/nonsense\n")
    assert "/clear starts anew" in terminal.wait_for("› ")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(endless: Path, opened: list[Terminal]) -> None:
    opened.append(
        terminal := Terminal(
            "chat", str(endless), "--context-tokens", "30000", "--max-tokens", "29000"
        )
    )
    terminal.wait_for("› ")
    terminal.type("写\n")
    terminal.wait_for(f"{ANSWER}\r\n{ANSWER}")
    terminal.type("\x03")
    shown = terminal.wait_for(r" …\r\n› ", seconds=20)
    assert "\ufffd" not in shown
    terminal.type("再写\n")
    terminal.wait_for(f"{ANSWER}\r\n{ANSWER}")
    terminal.type("\x03")
    terminal.wait_for(r" …\r\n› ", seconds=20)
    # At the prompt it leaves. Python loses a Ctrl-C that comes between the prompt and the reading
    # of the line; the one that counts is answered with a line break.
    for _ in range(10):
        terminal.type("\x03")
        with contextlib.suppress(AssertionError):
            terminal.wait_for("\n", seconds=3)
            break
    assert terminal.end() == 0


def test_a_conversation_that_fills_the_context_is_said(short: Path, opened: list[Terminal]) -> None:
    opened.append(terminal := Terminal("chat", str(short), "--context-tokens", "256"))
    terminal.wait_for("› ")
    terminal.type("好" * 300 + "\n")
    assert "context" in terminal.wait_for("hanpaca: .*\r\n")
    assert terminal.end() == 4


def test_without_a_terminal_it_reads_lines_and_writes_answers(short: Path, tmp_path: Path) -> None:

    run = tmp_path / "run/70-gguf"
    run.mkdir(parents=True)
    shutil.copyfile(short, run / "own.f16.gguf")
    (run / "own.q8_0.gguf").write_bytes(b"smaller")
    done = subprocess.run(
        [sys.executable, "-c", "from hanpaca.cli import main; main()", "chat", str(run.parent)],
        input="一\n\n二\n",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n{ANSWER}\n\n"
    assert done.stderr.startswith("own.f16.gguf. ")
