"""Tokenizers from scratch: exact size, LLaMA's settings, the same files every time."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from tokenizers import Tokenizer

from hanpaca.errors import ArtifactError, DataError, HanpacaError, RecipeError
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.sentencepiece_bpe import parse_model
from hanpaca.tokenizer.train import Kind, train_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

TEXTS = [
    "The quick brown fox jumps over the lazy dog.\n  It was the best of times in 1984, 2016.",
    "All happy families are alike; each unhappy family is unhappy in its own way.",
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。",
] * 5
PROBE = [*TEXTS[:3], "", " ", "  two  spaces", "\ttab\n", "龘😀\x00", "12345 3.14", "x" * 30, "<s>"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIZES: dict[Kind, int] = {"sentencepiece-bpe": 420, "sentencepiece-unigram": 325, "byte-bpe": 330}


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp("trained") / kind
    train_tokenizer(TEXTS, folder, kind=kind, num_pieces=SIZES[kind])
    return folder


def backend(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_the_vocabulary_has_the_size_that_was_asked_for(trained: Path) -> None:
    assert backend(trained).get_vocab_size() == SIZES[trained.name]  # type: ignore[index]


def test_every_text_comes_back_and_digits_stay_apart(trained: Path) -> None:
    tokenizer = backend(trained)
    for text in PROBE:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    digits = [sum(c in "0123456789" for c in p) for p in tokenizer.get_vocab() if p[:3] != "<0x"]
    assert max(digits) == 1


def test_our_own_reader_reads_it(trained: Path) -> None:
    if trained.name == "sentencepiece-unigram":
        with pytest.raises(ArtifactError, match="it is a Unigram model"):
            open_tokenizer(trained)
        return
    ids = open_tokenizer(trained).encode(PROBE[:-1])
    assert ids == [
        backend(trained).encode(text, add_special_tokens=False).ids for text in PROBE[:-1]
    ]


def test_transformers_gives_the_ids_of_the_library(trained: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(trained)
    ids = [loaded.encode(text, add_special_tokens=False) for text in PROBE[:-1]]
    if trained.name == "byte-bpe":
        assert ids == [
            backend(trained).encode(text, add_special_tokens=False).ids for text in PROBE[:-1]
        ]
        assert loaded.bos_token == loaded.eos_token == "<|endoftext|>"
        return
    model = str(trained / "tokenizer.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    assert ids == processor.encode(PROBE[:-1])
    assert (loaded.unk_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)


def test_the_model_says_what_llamas_says(tmp_path: Path, shared_data: Path) -> None:
    train_tokenizer(TEXTS, tmp_path, kind="sentencepiece-bpe", num_pieces=420)
    ours, llama = (
        parse_model(path.read_bytes(), path=path)
        for path in (tmp_path / "tokenizer.model", shared_data / "tokenizers/llama/tokenizer.model")
    )
    for field in (
        "model_type", "character_coverage", "byte_fallback", "split_digits", "split_by_whitespace",
        "split_by_unicode_script", "split_by_number", "allow_whitespace_only_pieces",
        "max_sentencepiece_length", "unk_id", "bos_id", "eos_id", "pad_id", "unk_surface",
    ):  # fmt: skip
        assert getattr(ours.trainer_spec, field) == getattr(llama.trainer_spec, field), field
    for field in ("name", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        assert getattr(ours.normalizer_spec, field) == getattr(llama.normalizer_spec, field), field


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_files_on_any_number_of_threads(
    kind: Kind, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from hanpaca.tokenizer.train import train_tokenizer\n"
        f"train_tokenizer({TEXTS!r}, Path(sys.argv[1]), kind={kind!r}, num_pieces={SIZES[kind]})"
    )
    hashes = []
    for threads in ("1", "2"):
        folder = tmp_path / threads
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        subprocess.run([sys.executable, "-c", code, folder], check=True, env=environment)
        files = sorted(folder.iterdir())
        hashes.append({f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files})
    assert hashes[0] == hashes[1]


def test_a_long_line_is_not_passed_over(tmp_path: Path) -> None:
    train_tokenizer(["白日依山尽" * 5000], tmp_path, kind="sentencepiece-bpe", num_pieces=270)
    assert open_tokenizer(tmp_path).encode(["白日"])[0][0] > 258


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("texts", "num_pieces", "error", "message"),
    [
        ([], 400, DataError, "the texts are empty"),
        (["", "\n"], 400, DataError, "the texts are empty"),
        (
            TEXTS,
            200,
            RecipeError,
            r"200 pieces are too few: the bytes and characters take at least",
        ),
        (TEXTS, 0, RecipeError, "0 pieces are too few"),
        (TEXTS, 100_000, DataError, r"the texts give only \d+ pieces, not 100000"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line_and_nothing_is_written(
    kind: Kind,
    texts: list[str],
    num_pieces: int,
    error: type[HanpacaError],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message) as raised:
        train_tokenizer(texts, tmp_path / "out", kind=kind, num_pieces=num_pieces)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_pieces_as_the_message_says_can_be_had(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        train_tokenizer(TEXTS, tmp_path, kind=kind, num_pieces=100_000)
    most = int(str(raised.value).split()[4])
    train_tokenizer(TEXTS, tmp_path, kind=kind, num_pieces=most)
    assert backend(tmp_path).get_vocab_size() == most
