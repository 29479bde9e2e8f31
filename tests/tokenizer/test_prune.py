import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from hanpaca.errors import ArtifactError, DataError, RecipeError
from hanpaca.tokenizer.byte_bpe import ByteBPE, byte_bpe_of_spec
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
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
    number = max(round(share * most.num_unused), 1)
    pruned = prune_tokenizer(open_tokenizer(base), texts, num_pieces=number)
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
    learned, aside = " the" * 90_000, " unhappy" * 10_000  # a token a word
    assert len(tokenizer.encode([aside])[0]) == 10_000
    smaller = prune_tokenizer(tokenizer, [learned]).tokenizer
    more = len(smaller.encode([aside])[0]) / 10_000 - 1
    assert more > 0
    found = prune_tokenizer(tokenizer, [learned + aside])
    assert found.unseen_growth == pytest.approx(more)
    assert cut_of(found, aside) == [b" unhappy"] * 10_000


def cut_of(pruned: Pruned, text: str) -> list[bytes]:
    return cut(pruned.tokenizer, [text])[0]


def test_more_than_can_go_is_refused_with_the_number_that_can(base: Path) -> None:
    with pytest.raises(DataError, match=r"only [\d,]+ of [\d,]+ entries .* ask for fewer"):
        prune_tokenizer(open_tokenizer(base), SENTENCES, num_pieces=399)


def test_text_that_needs_every_entry_leaves_nothing_to_take_out(pico_base: Path) -> None:
    tokenizer = open_tokenizer(pico_base)
    every = [tokenizer.surface(piece).decode(errors="ignore") for piece in tokenizer.ids]
    with pytest.raises(DataError, match="there is nothing to take out"):
        prune_tokenizer(tokenizer, every)


def test_no_text_protects_nothing_and_is_refused(base: Path) -> None:
    with pytest.raises(DataError, match="no text to protect"):
        prune_tokenizer(open_tokenizer(base), [""])


def test_no_number_of_entries_below_one_is_taken_out(pico_base: Path) -> None:
    with pytest.raises(RecipeError, match="num_pieces is -5: take out at least 1"):
        prune_tokenizer(open_tokenizer(pico_base), SENTENCES, num_pieces=-5)


def test_text_that_stood_between_blank_lines_is_cut_as_it_was_there(pico_base: Path) -> None:
    """As a tokenizer has them whose words may end in line breaks (Llama 3, Qwen)."""
    base = open_tokenizer(pico_base)
    assert isinstance(base, ByteBPE)
    grown, _ = base.extended([[b"\n", b"\n"], [b".", b"\n\n"]], [b"\n\n", b".\n\n"])
    whole = {"type": "ByteLevel", "add_prefix_space": False} | {
        "trim_offsets": True,
        "use_regex": False,
    }
    tokenizer = byte_bpe_of_spec(grown.spec | {"pre_tokenizer": whole}, path=base.path)
    text = "dog.\n\ndog."
    assert b".\n\n" in cut(tokenizer, [text])[0]
    pruned = prune_tokenizer(tokenizer, ["dog."]).tokenizer  # as files of text are read
    assert cut(pruned, [text]) == cut(tokenizer, [text])


def test_white_space_always_stays(base: Path) -> None:
    old = open_tokenizer(base)
    new = prune_tokenizer(old, ["dog"]).tokenizer
    blank = {piece for piece in old.ids if not old.surface(piece).strip()}
    assert blank
    assert blank <= new.ids.keys()


def test_a_control_token_in_protected_text_leaves_its_neighbours_as_they_were(
    pico_sentencepiece: Path, tmp_path: Path
) -> None:
    """`tokenizer.json` finds `<s>` in a text, and begins anew behind it."""
    text = "People<s>dog</s> times"
    convert_sentencepiece(pico_sentencepiece, tmp_path / "before")
    _, before = cut_by(tmp_path / "before")
    assert "<s>" in before(text)
    pruned = prune_tokenizer(open_tokenizer(pico_sentencepiece), [text])
    _, after = cut_by(written(pruned, pico_sentencepiece, tmp_path / "after"))
    assert after(text) == before(text)


def test_an_added_token_that_merges_make_too_keeps_what_it_is_built_of(
    pico_base: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(pico_base / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("happy", single_word=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (before,) = cut_by(tmp_path)
    assert before("xhappy") == ["x", "happy"]
    pruned = prune_tokenizer(open_tokenizer(tmp_path), ["xhappy"])
    (after,) = cut_by(written(pruned, tmp_path, tmp_path / "pruned"))
    assert after("xhappy") == ["x", "happy"]


def test_what_is_named_stays_and_so_does_what_it_is_built_of(base: Path) -> None:
    old = open_tokenizer(base)
    longest = max(old.ids.keys() - old.special, key=len)
    assert longest not in prune_tokenizer(old, ["dog"]).tokenizer.ids
    new = prune_tokenizer(old, ["dog"], keep=[longest]).tokenizer
    assert new.spell([new.surface(longest)]) == [[new.ids[longest]]]
    new = prune_tokenizer(old, ["dog"], also=[SENTENCES[1]]).tokenizer
    assert cut(new, [SENTENCES[1]]) == cut(old, [SENTENCES[1]])


def test_too_little_text_tells_nothing_of_other_text(base: Path) -> None:
    assert prune_tokenizer(open_tokenizer(base), SENTENCES).unseen_growth is None


def test_a_template_with_a_token_that_is_not_there_is_one_line(pico_base: Path) -> None:
    base = open_tokenizer(pico_base)
    assert isinstance(base, ByteBPE)
    for processor in (
        {"type": "TemplateProcessing", "special_tokens": {"a": {"tokens": ["<none>"]}}},
        {"type": "Sequence", "processors": [{"type": "BertProcessing", "cls": ["<none>", 7]}]},
    ):
        odd = replace(base, spec=base.spec | {"post_processor": processor})
        with pytest.raises(ArtifactError, match="post_processor names '<none>'"):
            odd.without([])


def test_of_two_equal_merges_the_last_one_counts_as_for_the_library(pico_base: Path) -> None:
    base = open_tokenizer(pico_base)
    assert isinstance(base, ByteBPE)
    grown, _ = base.extended([[b"z", b"q"], [b"q", b"w"], [b"z", b"q"]], [b"zq", b"qw"])
    assert cut(grown, ["zqw"]) == [[b"z", b"qw"]]
    rank = grown.rank_of()
    later, earlier = rank("z", "q"), rank("q", "w")
    assert later is not None
    assert earlier is not None
    assert later > earlier
    pruned = prune_tokenizer(grown, ["zqw"]).tokenizer
    assert cut(pruned, ["zqw"]) == [[b"z", b"qw"]]


def test_the_indent_of_chinese_paragraphs_is_white_space_too(pico_base: Path) -> None:
    base = open_tokenizer(pico_base)
    assert isinstance(base, ByteBPE)
    merges = [[b"\xe3", b"\x80"], [b"\xe3\x80", b"\x80"]]
    tokenizer, (_, indent) = base.extended(merges, [b"\xe3\x80", "\u3000".encode()])
    new = prune_tokenizer(tokenizer, ["dog"]).tokenizer
    assert indent in new.ids
    assert cut(new, ["\u3000"]) == [["\u3000".encode()]]
