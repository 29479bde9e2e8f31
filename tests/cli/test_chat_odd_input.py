"""What a pipe may bring, and numbers no model has: a line of words, never a crash."""

import io

import pytest

from hanpaca.cli.chat_lines import piped_lines
from hanpaca.cli.chat_talk import _file
from hanpaca.errors import DataError, RecipeError
from hanpaca.inference.sampling import Sampling
from hanpaca.steps.chat import Loading

CODECS_THAT_ARE_NO_ENCODING = (
    "hex",
    "rot13",
    "base64",
    "undefined",
    "idna",
    "punycode",
    "unicode_escape",
    "a\0b",
    "",
)


def all_lines(data: bytes, encoding: str) -> list[str]:
    read, found = piped_lines(io.BytesIO(data), encoding), []
    while True:
        try:
            found.append(read(""))
        except EOFError:
            return found


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16", "utf-16-le", "utf-32", "big5"])
@pytest.mark.parametrize("text", ["", "你好", "你好\n", "一\r\n二\n\n三", "\n\n"])
def test_lines_of_any_encoding_are_what_python_reads(encoding: str, text: str) -> None:
    expected = list(io.TextIOWrapper(io.BytesIO(text.encode(encoding)), encoding=encoding))
    assert all_lines(text.encode(encoding), encoding) == [line.rstrip("\n") for line in expected]


@pytest.mark.parametrize("encoding", CODECS_THAT_ARE_NO_ENCODING)
def test_a_codec_that_is_no_encoding_of_files_is_refused(encoding: str) -> None:
    with pytest.raises(RecipeError, match="is no encoding"):
        piped_lines(io.BytesIO(b"hi\n"), encoding)


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    class Endless(io.BytesIO):
        taken = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size > 0
            self.taken += size
            assert self.taken < 1 << 26
            return bytes(size)

    with pytest.raises(DataError, match="line 1: more than 1048576"):
        piped_lines(Endless(), "utf-8")("")


@pytest.mark.parametrize(
    "name", ["", "a\0b", "~nobody-of-this-name/x", "~nobody-of-this-name", "a\x1b[2J"]
)
def test_what_can_name_no_file_is_refused(name: str) -> None:
    with pytest.raises(RecipeError):
        _file(name)


def test_more_threads_than_llama_cpp_bears_are_refused() -> None:
    Loading(threads=512)
    with pytest.raises(RecipeError, match="threads is 513"):
        Loading(threads=513)


def test_numbers_beyond_32_bits_are_refused() -> None:
    with pytest.raises(RecipeError, match="no model has a context of 999999999999 tokens"):
        Loading(context_tokens=999_999_999_999)
    with pytest.raises(RecipeError, match="max tokens is"):
        Sampling(max_tokens=2**31)
    with pytest.raises(RecipeError, match="top k is"):
        Sampling(top_k=2**31)
