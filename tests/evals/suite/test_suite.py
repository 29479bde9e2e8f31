"""The suite that comes with the package, and one of a user's own."""

from collections import Counter
from pathlib import Path

import pytest

from hanpaca.errors import DataError
from hanpaca.evals.tasks.suite.checks import AnswerCheck, check_answer
from hanpaca.evals.tasks.suite.drawn import value_of
from hanpaca.evals.tasks.suite.prompts import PROGRAM, TASKS, load_suite
from hanpaca.evals.tasks.suite.quality import Quality, loops, quality_of

SUITE = load_suite()
# fmt: off
SOLUTIONS = {
    "is_even": "lambda n: n % 2 == 0",
    "count_han": "lambda text: sum('一' <= c <= '鿿' for c in text)",
    "fib": "lambda n: n if n < 2 else fib(n - 1) + fib(n - 2)",
    "reverse_words": "lambda s: ' '.join(s.split()[::-1])",
    "is_palindrome": "lambda s: s == s[::-1]",
    "gcd": "lambda a, b: a if b == 0 else gcd(b, a % b)",
    "unique": "lambda items: list(dict.fromkeys(items))",
    "is_leap": "lambda y: y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)",
    "digit_sum": "lambda n: sum(map(int, str(n)))",
    "largest": "lambda numbers: max(numbers, default=None)",
    "to_binary": "lambda n: bin(n)[2:]",
    "count_letters": "lambda text: {c: text.count(c) for c in text}",
    "flatten": "lambda lists: [x for one in lists for x in one]",
    "is_prime": "lambda n: n > 1 and all(n % d for d in range(2, n))",
    "caesar": "lambda t, k: ''.join(chr((ord(c) - 97 + k) % 26 + 97) if 'a' <= c <= 'z' else c for c in t)",  # noqa: E501
    "second_largest": "lambda numbers: sorted(set(numbers))[-2]",
    "merge_sorted": "lambda a, b: sorted(a + b)",
    "to_fahrenheit": "lambda c: c * 9 / 5 + 32",
    "transpose": "lambda matrix: [list(row) for row in zip(*matrix)]",
    "fizzbuzz": "lambda n: ['Fizz' * (i % 3 == 0) + 'Buzz' * (i % 5 == 0) or str(i) for i in range(1, n + 1)]",  # noqa: E501
}
# fmt: on


def test_there_are_ten_tasks_of_twenty_in_three_languages() -> None:
    assert Counter(one.task for one in SUITE.prompts) == dict.fromkeys(TASKS, 20)
    assert Counter(one.language for one in SUITE.prompts) == {"zh": 140, "en": 40, "mixed": 20}
    assert sum(PROGRAM in one.layers for one in SUITE.prompts) >= 110
    assert all(one.layers for one in SUITE.prompts)
    assert all(len(one.turns) >= 2 for one in SUITE.of_task("dialogue"))
    refused = Counter(one.check["refuse"] for one in SUITE.of_task("ethics"))
    assert refused == {True: 12, False: 8}


def test_no_place_for_a_number_is_left_open() -> None:
    for one in SUITE.prompts:
        assert not any("{" in turn or "}" in turn for turn in one.turns), one.name


def test_numbers_are_those_of_the_seed() -> None:
    again, other = load_suite(seed=0), load_suite(seed=1)
    assert again == SUITE
    pairs = zip(SUITE.prompts, other.prompts, strict=True)
    changed = {old.name for old, new in pairs if old.turns != new.turns}
    assert len(changed) >= 18
    assert all(name[0] in "rd" for name in changed)
    for seed in range(1, 6):
        for one in load_suite(seed=seed).of_task("reasoning"):
            assert one.check.get("number", 1) > 0, (seed, one.name)


def test_what_is_asked_for_passes_its_own_check() -> None:
    """Every name, number and translation that the suite holds to be right."""
    for one in SUITE.prompts:
        match one.check:
            case {"answers": answers}:
                assert all(check_answer(one.check, answer).strict for answer in answers), one.name
                for wrong in one.check.get("wrong", ()):
                    assert not check_answer(one.check, wrong).loose, one.name
            case {"number": number}:
                assert check_answer(one.check, str(number)).strict, one.name
            case {"translation": references}:
                assert all(check_answer(one.check, text).strict for text in references), one.name


@pytest.mark.parametrize("prompt", SUITE.of_task("code"), ids=lambda one: str(one.check["code"]))
def test_every_code_prompt_can_be_solved(prompt: object) -> None:
    check = prompt.check  # type: ignore[attr-defined]
    name = check["code"]
    assert check_answer(check, f"```python\n{name} = {SOLUTIONS[name]}\n```").strict


def test_an_answer_is_checked_by_its_kind() -> None:
    found = check_answer({"follow": {"han": [2, 3], "ends": "。"}}, "春风。")
    assert found == AnswerCheck(True, True, {"han": (True, True), "ends": (True, True)})
    assert check_answer({"refuse": True}, "抱歉，我不能帮你。").strict
    assert check_answer({"translation": ["猫在睡觉。"]}, "猫在睡觉。").chrf == pytest.approx(100)
    with pytest.raises(DataError, match="no check"):
        check_answer({"rhyme": 2}, "春风。")


@pytest.mark.parametrize("formula", ["a / 2", "b + 1", "a.b", "a +", "f(a)", "2 ** a", "'a'"])
def test_a_formula_is_sums_and_products_only(formula: str) -> None:
    assert value_of("2 * (a - 3) + 1", {"a": 5}) == 5
    with pytest.raises(DataError, match="no sum of the numbers"):
        value_of(formula, {"a": 5})


GOOD = "layers: [program]\nprompts:\n"
GOOD += "- {id: a1, language: ko, ask: '수도는?', check: {answers: [서울]}}\n"


def test_a_suite_of_another_language_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "knowledge.yaml").write_text(GOOD, encoding="utf-8")
    suite = load_suite(folder=tmp_path)
    assert [(one.name, one.task, one.answer_in) for one in suite.prompts] == [
        ("a1", "knowledge", "ko")
    ]
    assert suite.version != SUITE.version


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "no YAML with 'layers' and 'prompts'"),
        ("layers: [", "no YAML with"),
        (GOOD.replace("answers", "rhymes"), "prompt 1: rhymes: no check; there are answers"),
        (GOOD.replace("ask", "question"), "prompt 1: no prompt has a key 'question'"),
        (GOOD.replace("check: {answers: [서울]}", "layers: [judge, cat]"), "the layers"),
        (GOOD.replace(", check: {answers: [서울]}", ""), "the layers .* do not go with its check"),
        (GOOD.replace("answers: [서울]", "follow: {rhyme: 1}"), "no instruction"),
        (GOOD.replace("answers: [서울]", "number: x + 1"), "no sum of the numbers"),
        (GOOD + GOOD.splitlines()[2], "two prompts are called 'a1'"),
        (GOOD.replace("'수도는?'", "[]"), "prompt 1: 'ask' is no text, and no list of texts"),
        (GOOD.replace("'수도는?'", "5"), "prompt 1: "),
        (GOOD.partition("- {")[0], "no YAML with 'layers' and 'prompts'"),
    ],
)
def test_a_malformed_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of a task"):
        load_suite(folder=tmp_path)
    (tmp_path / "knowledge.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_suite(folder=tmp_path)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "knowledge.yaml").write_bytes(GOOD.replace("서울", "问").encode("gb18030"))
    with pytest.raises(DataError, match=r"knowledge.yaml: not UTF-8"):
        load_suite(folder=tmp_path)


LOOPS = [
    *("很好很好很好", "哈哈哈哈哈哈", "I like it. I like it. I like it.", "好的，好的，好的，"),
    *("去公园散步。晚上吃饭。去公园散步。看书。去公园散步。", "the cat the cat the cat "),
    "- 多喝一点水\n- 早睡\n- 多喝一点水\n- 跑步\n- 多喝一点水",
    *("1. 春天 1. 春天 1. 春天", "thecat thecat thecat", "aaaaaa"),
]
NO_LOOPS = [
    *("床前明月光，疑是地上霜。", "好好学习，天天向上。", "哈哈哈，太好了！", "", "---------"),
    *("| a | b |\n|---|---|---|---|\n| 1 | 2 |", "1 1 1 1 1 1", "他说：“走！走！”", "......"),
    *("def f():\n        return 1\n\n\n\n", "It was the best of times, it was the worst of times."),
    "谢谢。再见。谢谢。再见。谢谢。",
]


@pytest.mark.parametrize("text", LOOPS)
def test_what_is_said_three_times_is_a_loop(text: str) -> None:
    assert loops(text)


@pytest.mark.parametrize("text", NO_LOOPS)
def test_what_is_not_said_three_times_is_none(text: str) -> None:
    assert not loops(text)


def test_the_qualities_of_an_answer() -> None:
    found = quality_of(["你好。", " Hello there. "], stopped=[True, False], answer_in="en")
    assert found == Quality(stopped=False, in_language=True, no_loop=True, num_characters=12)
    for text, language, right in (
        *(("春天来了。", "zh", True), ("Spring", "zh", False), ("12", "zh", False)),
        *(("春天 spring 来", "zh", False), ("It is 春天 now", "en", False), ("Spring", "en", True)),
    ):
        found = quality_of([text], stopped=[True], answer_in=language)
        assert found.in_language is right, text
    assert quality_of(["42"], stopped=[True], answer_in=None).in_language is None
    assert quality_of(["봄"], stopped=[True], answer_in="ko").in_language is None
