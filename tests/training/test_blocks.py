"""Blocks of a training: the same as ever, kept on disk, and no more than it sees.

`tests/golden/blocks.json` was written by the package as it stood before tokens were kept on disk
(commit 8a1b9f3), when blocks were packed and mixed in memory: hashes of ids, labels and positions
of the blocks below, in their order.
"""

import json
import pickle
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from hanpaca.data.conversations import Conversation, Message
from hanpaca.data.named_templates import CHATML
from hanpaca.data.pack import BlockColumn, Blocks, Ints, content_hash, document_sequence, mix, pack
from hanpaca.data.sources import GivenTexts, Texts
from hanpaca.data.token_cache import StoredTokens
from hanpaca.errors import DataError, RecipeError, ResourceError
from hanpaca.files import locked
from hanpaca.model.load import load_tokenizer
from hanpaca.progress import Progress
from hanpaca.settings import PretrainSettings
from hanpaca.training import blocks as module
from hanpaca.training.blocks import Cutting, conversation_tokens, text_tokens
from tests.support.texts import ENGLISH, POEMS
from tests.support.tokenizers import make_pico_tokenizer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/blocks.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_pico_tokenizer(folder)
    found = load_tokenizer(folder)
    found.chat_template = CHATML
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/hanpaca/tokens"


def material() -> tuple[list[str], list[str], list[Conversation]]:
    chance = random.Random(7)
    words = ENGLISH.split()
    texts = [
        "".join(chance.choice(POEMS) for _ in range(chance.randint(1, 6))) + str(number)
        for number in range(150)
    ]
    texts.append("long " * 400)
    replay = [
        " ".join(chance.choice(words) for _ in range(chance.randint(3, 90))) for _ in range(40)
    ]
    talks: list[Conversation] = [
        (
            Message("user", f"question {number} " + chance.choice(POEMS)),
            Message("assistant", f"answer {number} {chance.choice(POEMS)}"),
        )
        for number in range(60)
    ]
    return texts, replay, talks


def rows(column: BlockColumn) -> Ints:
    return np.stack([column[row] for row in range(len(column))])


def same(one: Blocks, other: Blocks) -> bool:
    return content_hash(one) == content_hash(other)


@pytest.mark.parametrize("case", GOLDEN)
def test_blocks_are_the_same_as_before_they_were_kept(
    case: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    kind, size, number = case.split()
    texts, replay, talks = material()
    block_tokens, num_blocks = int(size), int(number)
    if kind == "pretrain":
        tokens, _ = text_tokens(tokenizer, GivenTexts(texts), Cutting(block_tokens))
        share = 0.25
    else:
        tokens, _ = conversation_tokens(
            tokenizer, talks, block_tokens=block_tokens, num_tokens=num_blocks * block_tokens
        )
        share = 0.1
    old, _ = text_tokens(tokenizer, GivenTexts(replay), Cutting(block_tokens))
    found = mix([(tokens.blocks(), 1)], old.blocks(), num_blocks=num_blocks, share=share, seed=3)
    assert content_hash(found) == GOLDEN[case]


def test_what_is_derived_is_what_packing_in_memory_gives(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    texts = material()[0]
    tokens, _ = text_tokens(tokenizer, GivenTexts(texts), Cutting(48))
    encoded = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    sequences = [document_sequence(ids, start_id=1, end_id=2) for ids in encoded]
    packed = pack(sequences, block_tokens=48, pad_id=2)
    assert same(tokens.blocks(), packed)
    assert (rows(tokens.blocks().labels) == packed.labels).all()


def test_a_second_start_makes_no_token_and_other_settings_make_their_own(
    tokenizer: PreTrainedTokenizerFast, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = GivenTexts(material()[0])
    told: list[Progress] = []
    first, made = text_tokens(tokenizer, texts, Cutting(64))
    assert made == 151
    with monkeypatch.context() as patch:
        patch.setattr(module, "_documents", None)  # whoever encodes fails
        again, made = text_tokens(tokenizer, texts, Cutting(64), tell=told.append)
    assert made == 0
    assert "are there from before" in told[-1].note
    assert same(again.blocks(), first.blocks())
    others = [
        (GivenTexts(texts.texts[1:]), Cutting(64)),
        (texts, Cutting(32)),
        (texts, Cutting(64, overlap_tokens=8)),
        (texts, Cutting(64, "joined")),
    ]
    assert [text_tokens(tokenizer, *other)[1] for other in others] == [150, 151, 151, 151]
    assert len(list(own_cache.iterdir())) == 5
    ids = own_cache / first.folder.name / "ids.bin"
    assert ids.stat().st_size == 2 * first.blocks().input_ids.size
    ids.write_bytes(ids.read_bytes()[:-2])
    assert text_tokens(tokenizer, texts, Cutting(64))[1] == 151
    assert ids.stat().st_size == 2 * first.blocks().input_ids.size


def test_other_processes_map_the_same_files(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens, _ = text_tokens(tokenizer, GivenTexts(material()[0]), Cutting(64))
    blocks = mix([(tokens.blocks(), 1)], None, num_blocks=20, share=0, seed=0)
    sent = pickle.dumps(blocks)
    assert len(sent) < 5_000
    assert same(pickle.loads(sent), blocks)


def test_conversations_are_kept_by_their_template(tokenizer: PreTrainedTokenizerFast) -> None:
    talks = material()[2]
    made = partial(conversation_tokens, tokenizer, talks, block_tokens=256, num_tokens=100_000)
    assert [made()[1] for _ in range(2)] == [60, 0]
    other = CHATML.replace("\\n", "\\n\\n")
    tokenizer.chat_template, before = other, tokenizer.chat_template
    try:
        assert made()[1] == 60
    finally:
        tokenizer.chat_template = before


def test_what_was_interrupted_leaves_no_half_and_is_made_again(
    tokenizer: PreTrainedTokenizerFast, own_cache: Path
) -> None:
    class KilledError(Exception):
        pass

    class Interrupted(GivenTexts):
        def __iter__(self) -> Iterator[str]:
            yield from self.texts[:150]
            raise KilledError

    texts = material()[0] * 3
    with pytest.raises(KilledError):
        text_tokens(tokenizer, Interrupted(texts), Cutting(32))
    assert all(left.name.endswith(".partial") for left in own_cache.iterdir())
    tokens, made = text_tokens(tokenizer, GivenTexts(texts), Cutting(32))
    assert made == len(texts)
    assert [path.name for path in own_cache.iterdir()] == [tokens.folder.name]
    assert {path.name for path in tokens.folder.iterdir()} == {
        "about.json",
        "ids.bin",
        "learned.bin",
        "starts.bin",
    }
    for path in tokens.folder.iterdir():
        path.unlink()
    tokens.folder.rmdir()
    partial = tokens.folder.with_name(f"{tokens.folder.name}.partial")
    with locked(partial), pytest.raises(ResourceError, match="is working in this folder"):
        text_tokens(tokenizer, GivenTexts(texts), Cutting(32))


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    from hanpaca.data.pack import Packable
    from hanpaca.data.token_cache import BlockShape, kept_tokens

    ids = np.asarray([1, 70_000, 2], np.uint32)
    for vocab_size, num_bytes in ((70_001, 4), (65_536, 2)):
        made, _ = kept_tokens(
            tmp_path / str(vocab_size),
            BlockShape(4, 2, vocab_size),
            lambda _: [Packable(ids, [(1, 3)])],
        )
        assert (made.folder / "ids.bin").stat().st_size == 4 * num_bytes
    wide = StoredTokens(tmp_path / "70001").blocks()
    assert wide.input_ids[0].tolist() == [1, 70_000, 2, 2]
    assert wide.labels[0].tolist() == [-100, 70_000, 2, -100]
    assert wide.position_ids[0].tolist() == [0, 1, 2, 0]


def test_joined_documents_are_what_the_reference_scripts_make(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """`group_texts` of run_clm_pt_with_peft.py, for one batch of lines: BOS each, and no EOS."""
    texts, size = material()[0], 32
    chain = [
        token
        for text in texts
        for token in [1, *tokenizer(text, add_special_tokens=False).input_ids]
    ]
    total = len(chain) // size * size
    expected = [chain[begin : begin + size] for begin in range(0, total, size)]
    tokens, _ = text_tokens(tokenizer, GivenTexts(texts), Cutting(size, "joined"))
    blocks = tokens.blocks()
    assert rows(blocks.input_ids).tolist() == expected
    assert (rows(blocks.labels)[:, 1:] == rows(blocks.input_ids)[:, 1:]).all()
    assert (rows(blocks.position_ids) == np.arange(size)).all()


def test_parts_of_a_long_document_overlap_and_nothing_is_learned_twice(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = " ".join(f"word{number}" for number in range(300))
    tokens, _ = text_tokens(tokenizer, GivenTexts([text]), Cutting(64, overlap_tokens=16))
    whole = [1, *tokenizer(text, add_special_tokens=False).input_ids, 2]
    learned: list[int] = []
    for row in range(tokens.num_blocks):
        ids, labels = tokens.blocks().input_ids[row], tokens.blocks().labels[row]
        positions = tokens.blocks().position_ids[row]
        for start in np.flatnonzero(positions == 0):
            later = np.flatnonzero(positions[start + 1 :] == 0)
            end = start + 1 + later[0] if len(later) else len(ids)
            if (labels[start:end] == -100).all():
                continue  # padding
            at = len(learned) + 1
            context = 16 if learned else 1
            assert ids[start : start + context].tolist() == whole[at - context : at]
            assert (labels[start : start + context] == -100).all()
            learned += labels[start + context : end].tolist()
    assert learned == whole[1:]


@pytest.mark.parametrize(
    "wrong", [{"overlap_tokens": 40}, {"overlap_tokens": 4, "documents": "joined"}]
)
def test_an_overlap_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="overlap_tokens"):
        PretrainSettings.model_validate({"num_tokens": 512, "block_tokens": 64, **wrong})


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_drawn_documents_are_whole_each_once_and_from_all_over(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanpaca.data.sources._STRETCH_BYTES", 97)
    chance = random.Random(0)
    texts = [f"{n}\n" * chance.randint(1, 9) + "山" * chance.randint(0, 60) for n in range(300)]
    texts = [text.strip() for text in texts]
    encoded = (
        "\n".join(json.dumps({"text": text}) for text in texts)
        if name.endswith("l")
        else "\n\n".join(texts)
    )
    (tmp_path / name).write_text(encoded, encoding="utf-8")
    source = Texts((tmp_path / name,))
    assert list(source) == texts
    drawn = list(source.drawn(0, 10**9))
    assert sorted(drawn) == sorted(texts)
    assert drawn == list(source.drawn(0, 10**9)) != list(source.drawn(1, 10**9))
    places = sorted(texts.index(text) for text in drawn[:30])
    assert places[0] < 75 < 225 < places[-1]
    held = source.after(3)
    assert list(held) == texts[3:]
    assert sorted(held.drawn(0, 10**9)) == sorted(texts[3:])
    assert len({source.digest(), held.digest()}) == 2


def test_of_more_text_than_is_made_whole_only_what_is_needed_is(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": f"{POEMS[n % 4]}{n}"}) for n in range(5_000))
    )
    source = Texts((tmp_path / "a.jsonl",))
    some, made = text_tokens(tokenizer, source, Cutting(64), num_tokens=6_400, seed=1)
    assert 100 <= some.num_blocks <= 130
    assert made < 500
    assert text_tokens(tokenizer, source, Cutting(64), num_tokens=6_400, seed=1)[1] == 0
    everything, _ = text_tokens(tokenizer, source, Cutting(64))
    assert everything.counts["texts"] == 5_000


def answers(tokenizer: PreTrainedTokenizerFast, tokens: StoredTokens) -> list[str]:
    found = []
    for row in range(tokens.num_blocks):
        labels = tokens.blocks().labels[row]
        for begin, end in tokens.learned(row):
            found.append(str(tokenizer.decode(labels[begin:end].tolist())))
    return sorted(found)


def test_prompts_are_cut_and_answers_never(tokenizer: PreTrainedTokenizerFast) -> None:
    ask = "山" * 90
    talks: list[Conversation] = [
        (Message("user", f"first {ask} last"), Message("assistant", "short")),
        (Message("user", "q"), Message("assistant", "水" * 90)),
        (
            Message("system", "be brief"),
            *(
                turn
                for number in range(4)
                for turn in (
                    Message("user", f"question {number}"),
                    Message("assistant", f"turn {number}"),
                )
            ),
        ),
    ]
    told: list[str] = []
    tokens, _ = conversation_tokens(
        tokenizer,
        talks,
        block_tokens=64,
        num_tokens=10_000,
        tell=lambda one: told.append(one.note),
    )
    texts = ["short", *(f"turn {n}" for n in range(4))]
    expected = [f"{text}<|im_end|>" for text in texts]
    assert answers(tokenizer, tokens) == sorted(expected)
    assert "1 prompts are longer than a block and lose their middle" in told
    assert any(note.startswith("1 answers are longer than a block") for note in told)
    texts = [
        str(tokenizer.decode(tokens.blocks().input_ids[n].tolist()))
        for n in range(len(tokens.blocks()))
    ]
    assert any("first" in text and "…" in text and "last" in text for text in texts)
    with pytest.raises(RecipeError, match="no answer fits the 64 tokens of a block"):
        conversation_tokens(tokenizer, talks[1:2], block_tokens=64, num_tokens=100)


def test_more_conversations_than_are_needed_are_drawn_from_all_of_them(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    talks: list[Conversation] = [
        (Message("user", f"question {n}"), Message("assistant", f"answer {n}")) for n in range(200)
    ]
    tokens, made = conversation_tokens(tokenizer, talks, block_tokens=64, num_tokens=640)
    numbers = [int(text.split()[1].split("<")[0]) for text in answers(tokenizer, tokens)]
    assert made < 60
    assert min(numbers) < 40 < 160 < max(numbers)
    other, _ = conversation_tokens(tokenizer, talks, block_tokens=64, num_tokens=640, seed=1)
    assert answers(tokenizer, other) != answers(tokenizer, tokens)


def test_rows_that_the_template_refuses_are_named_or_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    refusing = "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('no') }}{% endif %}"
    talks: list[Conversation] = [
        (Message("user", text), Message("assistant", "a")) for text in ("good", "bad", "fine")
    ]
    places = ["a.json:1", "a.json:2", "a.json:3"]
    made = partial(conversation_tokens, tokenizer, block_tokens=64, num_tokens=640)
    before = tokenizer.chat_template
    tokenizer.chat_template = refusing + CHATML
    try:
        with pytest.raises(DataError, match=r"a\.json:2: the chat template .*set skip_bad_rows="):
            made(talks, places=places)
        told: list[str] = []
        for _ in range(2):  # made, and found again
            tokens, _ = made(talks, skip_bad_rows=True, tell=lambda one: told.append(one.note))
        assert tokens.counts["texts"] == 2
        assert told.count("1 bad rows are left out: the chat template refuses them") == 2
        with pytest.raises(DataError, match="refuses every conversation"):
            made(talks[1:2], skip_bad_rows=True)
    finally:
        tokenizer.chat_template = before
