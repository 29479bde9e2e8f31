import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from hanpaca.errors import DataError
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_tokenizer
from hanpaca.tokenizer.extension.guarantees import cut
from hanpaca.tokenizer.open import open_tokenizer
from hanpaca.tokenizer.prune import Pruned, built_of, prune_tokenizer
from tests.support.texts import CHINESE, ENGLISH, SENTENCES

WORDS = sorted(set(ENGLISH.split()) | {"unhappily", "theory", "1984", "x=1", "(x)", "白日"})
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=4)
Cut = Callable[[str], list[str]]


@pytest.fixture(scope="module", params=["byte_level", "sentencepiece"])
def base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(
        "pico_sentencepiece" if request.param == "sentencepiece" else "pico_base"
    )
    return folder


def cut_by(folder: Path) -> list[Cut]:
    """How the libraries alone cut a text, by each file of the folder."""
    found: list[Cut] = []
    if (folder / "tokenizer.model").is_file():
        file = str(folder / "tokenizer.model")
        processor = sentencepiece.SentencePieceProcessor(model_file=file)
        found.append(lambda text: list(processor.encode(text, out_type=str)))
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        found.append(lambda text: list(tokenizer.encode(text, add_special_tokens=False).tokens))
    return found


def written(pruned: Pruned, base: Path, folder: Path) -> Path:
    write_tokenizer(pruned.tokenizer, base, folder)
    return folder


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=TEXTS, share=st.floats(0, 1))
def test_protected_text_is_cut_as_before_by_every_file(
    base: Path, tmp_path: Path, texts: list[str], share: float
) -> None:
    if not any(texts):
        return
    most = prune_tokenizer(open_tokenizer(base), texts)
    pruned = prune_tokenizer(open_tokenizer(base), texts, num_pieces=round(share * most.num_unused))
    shutil.rmtree(tmp_path / "pruned", ignore_errors=True)
    (before, *_), after = cut_by(base), cut_by(written(pruned, base, tmp_path / "pruned"))
    for text in texts:
        assert [one(text) for one in after] == [before(text)] * len(after)


@settings(max_examples=40, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.sampled_from([ENGLISH, CHINESE])))
def test_all_other_text_still_comes_back_as_from_the_base(base: Path, text: str) -> None:
    old = open_tokenizer(base)
    new = prune_tokenizer(old, SENTENCES[:1]).tokenizer
    assert new.decode(new.encode([text])) == old.decode(old.encode([text]))


def test_every_entry_that_text_could_make_and_that_stays_can_still_be_made(base: Path) -> None:
    old = open_tokenizer(base)
    new = prune_tokenizer(old, SENTENCES[:1]).tokenizer
    for piece in new.ids.keys() - new.special:
        surface = [old.surface(piece)]
        if old.spell(surface) == [[old.ids[piece]]]:
            assert new.spell(surface) == [[new.ids[piece]]]


def test_the_order_of_what_stays_and_all_bytes_and_special_tokens_stay(base: Path) -> None:
    old = open_tokenizer(base)
    pruned = prune_tokenizer(old, ["dog"])
    order = sorted(old.ids, key=old.ids.__getitem__)
    new = sorted(pruned.tokenizer.ids, key=pruned.tokenizer.ids.__getitem__)
    assert new == [order[number] for number in pruned.kept_ids]
    assert sorted(pruned.tokenizer.ids.values()) == list(range(len(new)))
    assert old.special <= set(new)
    assert len(new) + len(pruned.dropped) == len(old.ids)


def test_as_many_out_as_in_is_a_vocabulary_of_the_same_size(base: Path) -> None:
    old = open_tokenizer(base)
    pruned = prune_tokenizer(old, [*SENTENCES[:1], CHINESE], num_pieces=9).tokenizer
    swapped = extend_tokenizer(pruned, [CHINESE] * 9, num_pieces=9).tokenizer
    assert len(swapped.ids) == len(old.ids)
    names = {number: piece for piece, number in swapped.ids.items()}
    before = {number: piece for piece, number in old.ids.items()}
    (new,), (was,) = swapped.encode(SENTENCES[:1]), old.encode(SENTENCES[:1])
    assert [names[one] for one in new] == [before[one] for one in was]


def test_the_rarest_go_first_and_what_others_are_built_of_only_after_them(base: Path) -> None:
    old = open_tokenizer(base)
    builds = built_of(old)
    for number in (1, 5, 20):
        gone = prune_tokenizer(old, ["a"], num_pieces=number)
        assert set(gone.dropped) >= set(prune_tokenizer(old, ["a"], num_pieces=1).dropped)
        stays = gone.tokenizer.ids.keys() - gone.tokenizer.special
        assert all(builds[piece] <= gone.tokenizer.ids.keys() for piece in stays if builds[piece])


def test_an_entry_is_built_of_what_its_training_joined(pico_base: Path) -> None:
    builds = built_of(open_tokenizer(pico_base))
    spec = json.loads((pico_base / "tokenizer.json").read_text(encoding="utf-8"))
    merges = spec["model"]["merges"]
    assert merges
    for left, right in merges:
        assert {left, right} <= builds[left + right]
        assert builds[left] | builds[right] <= builds[left + right]


def test_special_tokens_after_the_words_get_the_numbers_that_are_left(
    pico_base: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(pico_base, tmp_path / "base"))
    file = str(base / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.add_special_tokens([AddedToken("<|last|>", special=True)])
    last = tokenizer.get_vocab_size() - 1
    tokenizer.post_processor = TemplateProcessing(
        single="<|last|> $A", special_tokens=[("<|last|>", last)]
    )
    tokenizer.save(file)
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    listed = {"content": "<|last|>", "special": True}
    config["added_tokens_decoder"] = {str(last): listed}
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (base / "added_tokens.json").write_text(json.dumps({"<|last|>": last}), encoding="utf-8")

    pruned = prune_tokenizer(open_tokenizer(base), SENTENCES[:1])
    folder = written(pruned, base, tmp_path / "pruned")
    now = last - len(pruned.dropped)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert pruned.dropped
    assert loaded.convert_tokens_to_ids("<|last|>") == now == len(loaded) - 1
    assert loaded(SENTENCES[0])["input_ids"][0] == now
    assert loaded.encode("dog<|last|>", add_special_tokens=False)[-1] == now
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["added_tokens_decoder"][str(now)]["content"] == "<|last|>"
    assert json.loads((folder / "added_tokens.json").read_text()) == {"<|last|>": now}


def test_what_unseen_text_takes_more_is_measured_on_one_stretch_in_ten(pico_base: Path) -> None:
    tokenizer = open_tokenizer(pico_base)
    learned, aside = " the" * 4_500, " unhappy" * 500  # a token a word, and the tenth 500 tokens
    assert len(tokenizer.encode([aside])[0]) == 500
    smaller = prune_tokenizer(tokenizer, [learned]).tokenizer
    more = len(smaller.encode([aside])[0]) / 500 - 1
    assert more > 0
    found = prune_tokenizer(tokenizer, [learned + aside])
    assert found.unseen_growth == pytest.approx(more)
    assert cut_of(found, aside) == [b" unhappy"] * 500


def cut_of(pruned: Pruned, text: str) -> list[bytes]:
    return cut(pruned.tokenizer, [text])[0]


def test_more_than_can_go_is_refused_with_the_number_that_can(base: Path) -> None:
    with pytest.raises(DataError, match=r"only [\d,]+ of [\d,]+ entries .* ask for fewer"):
        prune_tokenizer(open_tokenizer(base), SENTENCES, num_pieces=399)


def test_no_text_protects_nothing_and_is_refused(base: Path) -> None:
    with pytest.raises(DataError, match="no text to protect"):
        prune_tokenizer(open_tokenizer(base), [""])
