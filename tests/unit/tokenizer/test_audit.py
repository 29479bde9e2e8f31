"""The audit: right on a good extension, and outspoken on a bad one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from hanpaca.errors import DataError
from hanpaca.tokenizer.audit import audit_extension
from hanpaca.tokenizer.byte_bpe import piece_of_bytes
from hanpaca.tokenizer.extend import extend_tokenizer, write_extension

TEXTS = ["白日依山尽，黄河入海流。", "欲穷千里目，更上一层楼。白日千里。"]
ENGLISH = ["People create theories.", "quick brown fox in 1984"]


@pytest.fixture(scope="module")
def extended(pico_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    write_extension(extend_tokenizer(pico_base, TEXTS, num_pieces=10), pico_base, folder)
    return folder


def broken(base: Path, folder: Path) -> Path:
    """What careless tools do: new merges in front, pieces without a path, an English piece."""
    spec = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = spec["model"]["vocab"]
    for piece in ("zz", "12", piece_of_bytes("黄河".encode())):
        vocab[piece] = len(vocab)
    spec["model"]["merges"].insert(0, ["z", "z"])
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def test_a_good_extension_has_nothing_to_report(pico_base: Path, extended: Path) -> None:
    audit = audit_extension(pico_base, extended, texts=TEXTS, protected=ENGLISH)
    assert audit.num_pieces_after == audit.num_pieces_before + 10
    assert (audit.dead_pieces, audit.killed_pieces) == ((), ())
    # Only half characters, each the way to the one character of this small text that has it.
    assert all(piece.startswith("\\x") for piece in audit.unused_pieces)
    assert (audit.num_changed_protected, audit.num_recut, audit.num_round_trip_failures) == (0,) * 3


def test_tokens_per_character_count_target_runs_and_whole_texts(
    pico_base: Path, extended: Path
) -> None:
    audit = audit_extension(pico_base, extended, texts=["白日, x"], protected=[])
    assert audit.target_tokens_per_character_before == 3.0  # three bytes a character
    assert audit.text_tokens_per_character_before == (6 + 2) / 5
    tokenizer = Tokenizer.from_file(str(extended / "tokenizer.json"))
    num_tokens = len(tokenizer.encode("白日").ids)
    assert audit.target_tokens_per_character_after == num_tokens / 2
    assert audit.text_tokens_per_character_after == (num_tokens + 2) / 5


def test_a_bad_extension_is_named_in_every_way(pico_base: Path, tmp_path: Path) -> None:
    bad = broken(pico_base, tmp_path / "bad")
    protected = [*ENGLISH, "a pizza"]
    audit = audit_extension(pico_base, bad, texts=[*TEXTS, "fuzz"], protected=protected)
    assert audit.num_pieces_after == audit.num_pieces_before + 3
    assert audit.dead_pieces == audit.unused_pieces == ("12", "黄河")
    assert (audit.num_changed_protected, audit.changed_protected) == (1, ("a pizza",))


def test_a_base_piece_that_can_no_longer_form_is_named(pico_base: Path, tmp_path: Path) -> None:
    spec = json.loads((pico_base / "tokenizer.json").read_text(encoding="utf-8"))
    left, right = next(m for m in spec["model"]["merges"] if m[0] == "h" or len(m[1]) == 1)
    other = next(c for c in "zqjvk" if right + c not in spec["model"]["vocab"])
    spec["model"]["merges"].remove([left, right])
    spec["model"]["vocab"][right + other] = len(spec["model"]["vocab"])
    spec["model"]["merges"].append([right, other])
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    audit = audit_extension(pico_base, tmp_path, texts=["白"], protected=[])
    assert (left + right).replace("Ġ", " ") in audit.killed_pieces


def test_only_the_first_examples_are_kept_but_all_are_counted(
    pico_base: Path, tmp_path: Path
) -> None:
    bad = broken(pico_base, tmp_path / "bad")
    audit = audit_extension(pico_base, bad, texts=["白"], protected=["pizza"] * 25)
    assert (audit.num_changed_protected, len(audit.changed_protected)) == (25, 10)


def test_an_audit_can_be_written_as_json(pico_base: Path, extended: Path) -> None:
    audit = audit_extension(pico_base, extended, texts=TEXTS, protected=ENGLISH)
    assert json.loads(json.dumps(asdict(audit), allow_nan=False))["dead_pieces"] == []


def test_texts_without_target_characters_cannot_be_audited(pico_base: Path, extended: Path) -> None:
    with pytest.raises(DataError, match="no Han characters"):
        audit_extension(pico_base, extended, texts=ENGLISH, protected=[])
