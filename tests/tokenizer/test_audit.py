"""The audit: right on a good extension, and outspoken on a bad one."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from hanpaca.errors import DataError
from hanpaca.tokenizer.audits.audit import DIGITS_CORPUS, audit_extension, audit_tokenizers
from hanpaca.tokenizer.audits.changes import ChangedStretch
from hanpaca.tokenizer.byte_bpe import piece_of_bytes
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.sentencepiece_bpe import parse_model
from hanpaca.tokenizer.train import train_tokenizer

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
    corpus = audit.corpora[0]
    assert audit.target_tokens_per_character_before == 3.0  # three bytes a character
    assert (corpus.num_tokens_before, corpus.num_characters) == (6 + 2, 5)
    tokenizer = Tokenizer.from_file(str(extended / "tokenizer.json"))
    num_tokens = len(tokenizer.encode("白日").ids)
    assert audit.target_tokens_per_character_after == num_tokens / 2
    assert corpus.num_tokens_after == num_tokens + 2
    assert corpus.scripts[0].script == "Han"
    lengths = {one.script: (one.num_characters, one.num_tokens_after) for one in corpus.scripts}
    assert lengths == {
        "Han": (2, num_tokens),
        "punctuation and symbols": (1, 1),
        "Latin": (2, len(tokenizer.encode(" x").ids)),
    }


def test_a_bad_extension_is_named_in_every_way(pico_base: Path, tmp_path: Path) -> None:
    bad = broken(pico_base, tmp_path / "bad")
    protected = [*ENGLISH, "a pizza"]
    audit = audit_extension(pico_base, bad, texts=[*TEXTS, "fuzz"], protected=protected)
    assert audit.num_pieces_after == audit.num_pieces_before + 3
    assert audit.dead_pieces == audit.unused_pieces == ("12", "黄河")
    assert audit.junk["digit strings"] == ("12",)
    assert audit.junk["ASCII letters"] == ("zz",)
    assert audit.num_changed_protected == 1
    texts, english, _ = audit.corpora
    assert (texts.num_changed, texts.num_changed_without_target) == (1, 1)
    assert english.changes == (ChangedStretch(("z", "z"), ("zz",), 1, "a pizza"),)


def test_an_entry_with_another_id_is_named(pico_base: Path, tmp_path: Path) -> None:
    spec = json.loads((pico_base / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = spec["model"]["vocab"]
    vocab["q"], vocab["z"] = vocab["z"], vocab["q"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    audit = audit_extension(pico_base, tmp_path, texts=["白"], protected=ENGLISH)
    assert set(audit.moved_entries) == {"q", "z"}
    assert audit.num_changed_protected == 0  # the cuts are the same


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
    early = json.loads((bad / "tokenizer.json").read_text(encoding="utf-8"))
    early["model"]["vocab"]["ow"] = len(early["model"]["vocab"])
    early["model"]["merges"].insert(0, ["o", "w"])
    (bad / "tokenizer.json").write_text(json.dumps(early), encoding="utf-8")
    lines = [f"{a}{b}zz brown" for a in "abcde" for b in "vwxyq"]
    audit = audit_extension(pico_base, bad, texts=["白"], protected=lines)
    corpus = audit.corpora[1]
    assert (audit.num_changed_protected, len(corpus.changes)) == (25, 2)
    assert (corpus.num_recut, len(corpus.recut)) == (25, 10)
    assert [change.count for change in corpus.changes] == [25, 25]


def test_built_in_numbers_are_protected(pico_base: Path, tmp_path: Path) -> None:
    spec = json.loads((pico_base / "tokenizer.json").read_text(encoding="utf-8"))
    spec["pre_tokenizer"] = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True
    }  # fmt: skip
    spec["model"]["vocab"]["19"] = len(spec["model"]["vocab"])
    spec["model"]["merges"].append(["1", "9"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    audit = audit_tokenizers(
        open_tokenizer(pico_base), open_tokenizer(tmp_path), texts={}, protected={}
    )
    assert audit.corpora[0].name == DIGITS_CORPUS
    assert audit.num_changed_protected > 100
    assert audit.target_tokens_per_character_after == 0.0


def test_an_audit_can_be_written_as_json(pico_base: Path, extended: Path) -> None:
    audit = audit_extension(pico_base, extended, texts=TEXTS, protected=ENGLISH)
    assert json.loads(json.dumps(asdict(audit), allow_nan=False))["dead_pieces"] == []


def test_texts_without_target_characters_cannot_be_audited(pico_base: Path, extended: Path) -> None:
    with pytest.raises(DataError, match="no Han characters"):
        audit_extension(pico_base, extended, texts=ENGLISH, protected=[])


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("sentencepiece")
    lines = [*TEXTS, *ENGLISH] * 3
    train_tokenizer(lines, folder, kind="sentencepiece-bpe", num_pieces=400)
    return folder


def test_two_families_are_compared_by_their_cuts(
    pico_base: Path, sentencepiece_folder: Path
) -> None:
    audit = audit_extension(
        pico_base, sentencepiece_folder, texts=["白"], protected=["1 2", "create"]
    )
    assert (audit.same_family, audit.moved_entries) == (False, ())
    digits, words = (audit.corpora[1].num_changed, audit.corpora[1].changes)
    assert digits == 1  # "1 2" is cut alike, but for the space that SentencePiece puts in front
    assert "".join(words[0].before) == "".join(words[0].after) == "create"
    assert audit.num_round_trip_failures == 0
    assert "白" not in audit.killed_pieces


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=8)
@given(texts=st.lists(st.text(max_size=30), max_size=4))
@pytest.mark.parametrize("family", ["byte-level", "sentencepiece"])
def test_a_tokenizer_does_not_differ_from_itself(
    pico_base: Path, sentencepiece_folder: Path, family: str, texts: list[str]
) -> None:
    folder = pico_base if family == "byte-level" else sentencepiece_folder
    audit = audit_extension(folder, folder, texts=[*texts, "白"], protected=texts)
    assert audit.same_family
    assert audit.num_new_pieces == len(audit.moved_entries) == len(audit.killed_pieces) == 0
    assert audit.num_changed_protected == audit.num_recut == audit.num_round_trip_failures == 0
    text = audit.corpora[0]
    assert text.num_tokens_before == text.num_tokens_after
    assert text.num_characters == sum(map(len, texts)) + 1
    assert all(one.num_tokens_before == one.num_tokens_after for one in text.scripts)
    assert text.num_engine_dependent == 0


def test_text_that_depends_on_the_engine_is_found(
    sentencepiece_folder: Path, tmp_path: Path
) -> None:
    file = sentencepiece_folder / "tokenizer.model"
    proto = parse_model(file.read_bytes(), path=file)
    for piece in ("日河", "河日"):  # "日河日" has both, and no list can put the left one first
        proto.pieces.add(piece=piece, score=1.0)
    (tmp_path / "tokenizer.model").write_bytes(proto.SerializeToString())
    texts = ["日河日河", "河日河日", "日河", "河日"]
    audit = audit_extension(sentencepiece_folder, tmp_path, texts=texts, protected=[])
    assert audit.ties_before.num_unorderable == 0
    assert set(audit.ties_after.unorderable) == {"日河", "河日"}
    assert audit.corpora[0].num_engine_dependent == 1
