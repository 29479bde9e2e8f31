"""Over a thousand damaged and lying headers: an error in one line, at once, in little memory."""

import copy
import json
import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hanpaca.checkpoints.gguf import read_header
from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.checkpoints.headers import read_safetensors
from hanpaca.errors import ArtifactError
from hanpaca.steps.write_gguf import folder_to_gguf
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
from tests.support.models import model_of_one_layer

HUGE = (2**31, 2**32 - 1, 2**40, 2**53, 2**62, 2**63, 2**64 - 1)
MOST_SECONDS = 30.0
"""Much more than any needs, so that other work on the machine does not matter."""
MOST_BYTES = 64_000_000


class Tally:
    """Tries contents of one file, and counts the refusals."""

    def __init__(self, file: Path, read: Callable[[Path], object]) -> None:
        self.file, self.read = file, read
        self.refused = 0

    def __call__(self, content: bytes, *, size: int | None = None) -> bool:
        """Whether a content is refused; `size` makes the file longer without using the disk."""
        self.file.write_bytes(content)
        if size is not None:
            with self.file.open("r+b") as stream:
                stream.truncate(size)
        tracemalloc.reset_peak()
        begin = time.monotonic()
        told = None
        try:
            self.read(self.file)
        except ArtifactError as error:
            told = str(error)
        assert time.monotonic() - begin < MOST_SECONDS
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
        assert told is None or (str(self.file) in told and "\n" not in told)
        self.refused += told is not None
        return told is not None


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def flipped(whole: bytes, at: int, chance: random.Random) -> bytes:
    damaged = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        damaged[(at + chance.randrange(8)) % len(whole)] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def overwritten(whole: bytes, at: int, value: bytes) -> bytes:
    return whole[:at] + value + whole[at + len(value) :]


@pytest.fixture(scope="module")
def gguf_files(
    pico_untied: Path, pico_sentencepiece: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[bytes]:
    """One of each family of tokenizers."""
    folder = tmp_path_factory.mktemp("gguf")
    convert_sentencepiece(pico_sentencepiece, folder / "t")
    models = (pico_untied, model_of_one_layer(folder / "t", folder / "m"))
    for number, model in enumerate(models):
        folder_to_gguf(model, folder / f"{number}.gguf", file_type="f16", metadata={})
    return [(folder / f"{number}.gguf").read_bytes() for number in range(len(models))]


@pytest.mark.slow
def test_gguf_files(gguf_files: list[bytes], tmp_path: Path) -> None:
    chance = random.Random(0)
    tally = Tally(tmp_path / "m.gguf", open_gguf)
    for whole in gguf_files:
        assert not tally(whole)
        tensors = read_header(tally.file).tensors
        begin = min(entry.begin for entry in tensors.values())
        infos = whole.rindex(b"token_embd.weight", 0, begin) - 8
        for _ in range(80):
            assert tally(whole[: chance.randrange(begin)])
        for _ in range(150):
            tally(flipped(whole, chance.randrange(begin), chance))
        for _ in range(100):
            at, value = chance.randrange(4, begin), chance.choice(HUGE)
            tally(overwritten(whole, at, struct.pack("<Q", value)))
            # Sizes and offsets of tensors.
            at = chance.randrange(infos, begin - 8)
            tally(overwritten(whole, at, struct.pack("<Q", chance.choice((0, 1, 32, *HUGE)))))
        for name in chance.choices(sorted(tensors), k=20):
            at = whole.index(struct.pack("<Q", len(name)) + name.encode(), infos) + 8 + len(name)
            for kind in (4, 5, 24, 31, 99, 2**31):
                info = 4 + 8 * len(tensors[name].shape)
                assert tally(overwritten(whole, at + info, struct.pack("<I", kind)))
            assert tally(overwritten(whole, at, struct.pack("<I", chance.choice((0, 5, 2**31)))))
            offset = struct.pack("<Q", chance.choice(HUGE))
            assert tally(overwritten(whole, at + info + 4, offset))
    assert tally.refused >= 500, tally.refused


def test_a_file_of_many_gigabytes_fills_no_memory(tmp_path: Path) -> None:
    """Counts that fit the file's size, which is no proof of anything."""
    tally = Tally(tmp_path / "m.gguf", read_header)
    key = struct.pack("<Q", 1) + b"x"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key
    for kind in (0, 4, 6, 7, 8, 10, 12):  # numbers, truth, text
        for count in (2**23, 2**28, 2**30):
            assert tally(head + struct.pack("<IIQ", 9, kind, count), size=2**34), (kind, count)
    for length in (2**28, 2**33):
        assert tally(head + struct.pack("<IQ", 8, length), size=2**34)
    assert tally(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**32), size=2**34)
    assert tally(b"GGUF" + struct.pack("<IQQ", 3, 2**32, 0), size=2**34)


def safetensors(tree: object, data: bytes, *, length: int | None = None) -> bytes:
    header = json.dumps(tree).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ENTRIES: tuple[Any, ...] = (
    None, 5, [], {}, "x", {"dtype": "F32"},
    {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
    {"dtype": 5, "shape": [1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [None], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1] * 10_000, "data_offsets": [0, 8]},
    {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [0]},
    {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
    {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
    {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
    {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]},
    {"dtype": "F32", "shape": [1], "data_offsets": [2**63, 2**63 + 4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**64]},
    {"dtype": "F32", "shape": [1], "data_offsets": [0.0, 4.0]},
)  # fmt: skip


@pytest.mark.slow
def test_safetensors_files(pico_untied: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    tally = Tally(tmp_path / "m.safetensors", read_safetensors)
    whole = (pico_untied / "model.safetensors").read_bytes()
    assert not tally(whole)
    (length,) = struct.unpack("<Q", whole[:8])
    tree, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    names = [name for name in tree if name != "__metadata__"]
    for _ in range(200):
        assert tally(whole[: chance.randrange(len(whole))])
        tally(flipped(whole, chance.randrange(8 + length), chance))
    for claimed in (0, 1, 7, length - 1, length + 1, len(whole), *HUGE):
        assert tally(struct.pack("<Q", claimed) + whole[8:])
    for entry in ENTRIES:
        for name in chance.sample(names, 8):
            assert tally(safetensors({**tree, name: entry}, data))
    for _ in range(200):
        lying = copy.deepcopy(tree)
        entry = lying[chance.choice(names)]
        match chance.randrange(3):
            case 0:
                entry["data_offsets"][chance.randrange(2)] = chance.choice((1, 2, 10**9, *HUGE))
            case 1:
                entry["data_offsets"] = lying[names[0]]["data_offsets"]
                entry["shape"] = [*lying[names[0]]["shape"], 1, 2]
            case 2:
                entry["shape"] = [*entry["shape"], chance.choice((0, 3, *HUGE))]
        assert tally(safetensors(lying, data))
    assert tally.refused >= 500, tally.refused


def test_headers_of_many_megabytes_fill_no_memory(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "m.safetensors", read_safetensors)
    for length in (2**27, 2**30, 2**33):
        assert tally(struct.pack("<Q", length), size=2**34)
    for header in (b"[" * 10**6, b'{"a":' * 10**6, b"1" * 10**6, b"{" + b" " * 10**7, b"\xff" * 99):
        assert tally(struct.pack("<Q", len(header)) + header)
