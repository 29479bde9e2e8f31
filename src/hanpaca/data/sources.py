"""Documents that are read as often as they are needed, from wherever they lie.

A corpus may be larger than memory, and training sees little of a large one: so its documents can
also be drawn, from places all over its files, without reading the rest.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from hanpaca.data.documents import join_lines, json_texts, read_documents, short_texts
from hanpaca.data.files import TextFile, text_files
from hanpaca.data.lines import MAX_ROW_CHARACTERS, text_decoder
from hanpaca.errors import DataError
from hanpaca.files import describe_file
from hanpaca.progress import Tell, silent

_STRETCH_BYTES = 1 << 18
"""Read at one place of a file that is drawn from."""
_LINE_BYTES = 4 * MAX_ROW_CHARACTERS
# Of these, a line end is no part of another character, wherever reading begins.
_WIDE = ("utf-16", "utf-32", "utf_16", "utf_32")


@dataclass(frozen=True)
class GivenTexts:
    """Documents in memory."""

    texts: Sequence[str]

    num_bytes = 0
    """Nothing is read from disk."""

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def digest(self) -> str:
        """SHA-256 of the documents, in their order."""
        digest = hashlib.sha256()
        for text in self.texts:
            digest.update(json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass"))
            digest.update(b"\n")
        return digest.hexdigest()

    def drawn(self, seed: int, most_characters: int) -> Iterator[str]:
        """All of them: they are in memory anyway."""
        return iter(self.texts)

    def after(self, number: int) -> "GivenTexts":
        """Without the first ones."""
        return GivenTexts(self.texts[number:])


@dataclass(frozen=True)
class Texts:
    """Documents in files, as `read_documents` reads them; read again each time, and never held."""

    paths: tuple[Path, ...]
    """Files, or folders of them."""
    encoding: str = "utf-8"
    """Of every file but parquet."""
    text_field: str = "text"
    """Of .jsonl lines and .parquet rows."""
    tell: Tell = silent
    """Called as `read_documents` does."""
    num_skipped: int = 0
    """Documents at the beginning that are left out."""

    def __iter__(self) -> Iterator[str]:
        found = read_documents(
            self.paths, encoding=self.encoding, text_field=self.text_field, tell=self.tell
        )
        return islice((document.text for document in found), self.num_skipped, None)

    @property
    def num_bytes(self) -> int:
        """Size of all files, packed as they are."""
        return sum(file.num_bytes for file in self._files())

    def digest(self) -> str:
        """SHA-256 of the files' content, in their order, and of how they are read."""
        files = [
            (f.layout, f.compression, describe_file(f.path, name="").sha256) for f in self._files()
        ]
        how = [files, self.encoding, self.text_field, self.num_skipped]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()

    def after(self, number: int) -> "Texts":
        """Without the first ones."""
        return replace(self, num_skipped=number)

    def apart(self) -> list["Texts"]:
        """Each path by itself; what is left out is left out of the first."""
        return [
            Texts(
                (path,),
                self.encoding,
                self.text_field,
                self.tell,
                0 if number else self.num_skipped,
            )
            for number, path in enumerate(self.paths)
        ]

    def drawn(self, seed: int, most_characters: int) -> Iterator[str]:
        """Documents from places all over the files, in random order, each at most once.

        Files that can be read from the middle (text and JSON lines that are not packed) are read in
        stretches; of the others the beginning is read, as much as their share of all bytes.

        Args:
            seed: Of the places.
            most_characters: That anybody needs.

        Raises:
            DataError: A document is malformed: names the file and the byte where it begins.
        """
        left_out = set(islice(self.after(0), self.num_skipped))
        total = self.num_bytes
        stretches = []
        for file in self._files():
            if file.layout == "parquet" or file.compression or self.encoding.startswith(_WIDE):
                most = most_characters * file.num_bytes // total
                stretches.append(partial(self._beginning, file, most))
            else:
                stretches += [
                    partial(self._stretch, file, start)
                    for start in range(0, file.num_bytes, _STRETCH_BYTES)
                ]
        random.Random(seed).shuffle(stretches)
        return (text for read in stretches for text in read() if text not in left_out)

    def _files(self) -> list[TextFile]:
        return [file for path in self.paths for file in text_files(path)]

    def _beginning(self, file: TextFile, most_characters: int) -> Iterator[str]:
        found = read_documents([file.path], encoding=self.encoding, text_field=self.text_field)
        for document in found:
            yield document.text
            most_characters -= len(document.text)
            if most_characters <= 0:
                return

    def _stretch(self, file: TextFile, start: int) -> Iterator[str]:
        """The documents that begin in one stretch of a file."""
        lines = self._lines(file, start)
        if file.layout == "jsonl":
            yield from (text for _, text in short_texts(json_texts(file, lines, self.text_field)))
        else:
            bare = ((place, line.rstrip()) for place, line in lines)
            yield from (text for _, text in join_lines(bare, blank_line_ends=True))

    def _lines(self, file: TextFile, start: int) -> Iterator[tuple[int, str]]:
        """Lines of the documents that begin in a stretch, each with the byte it begins at.

        A document of text begins after a blank line, and belongs to the stretch of that line.
        """
        is_jsonl = file.layout == "jsonl"
        with file.path.open("rb") as stream:
            is_before = start > 0
            if start:
                stream.seek(start - 1)
                stream.readline(_LINE_BYTES)
            while line := self._line(file, stream.tell(), stream.readline(_LINE_BYTES)):
                place, text = line
                is_border = is_jsonl or not text.strip()
                if is_border and place >= start + _STRETCH_BYTES:
                    return
                is_before = is_before and not is_border
                if not is_before:
                    yield place, text

    def _line(self, file: TextFile, place: int, data: bytes) -> tuple[int, str] | None:
        if not data:
            return None
        if len(data) == _LINE_BYTES:
            raise DataError(f"{file.path}: a line of {_LINE_BYTES} bytes at byte {place}")
        try:
            text = text_decoder(self.encoding).decode(data, final=True)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file.path}: byte {place + error.start} is not {error.encoding}",
                "mend the file, or give its {encoding}",
            ) from error
        return place, text.removeprefix("\ufeff").removesuffix("\n")


Source = GivenTexts | Texts


def as_source(texts: Iterable[str]) -> Source:
    """Documents that can be read more than once."""
    return texts if isinstance(texts, GivenTexts | Texts) else GivenTexts(list(texts))
