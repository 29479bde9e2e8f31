"""Rows made with a model: what is asked, which are kept, and which are too much alike."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanpaca.data.generating.alike import NOBODY, KeptTexts, rouge_l, units_of
from hanpaca.data.generating.card import without_secrets
from hanpaca.data.generating.judging import RowJudge
from hanpaca.data.generating.settings import GenerateSettings
from hanpaca.data.generating.talks import MadeRow, Sources, Talk, TalkReply, instruction_in
from hanpaca.data.generating.turns import user_turn
from hanpaca.data.generating.words import generating_words
from hanpaca.data.named_templates import NAMED
from hanpaca.evals.tasks.suite.quality import loops

ZH = generating_words("zh")
LETTERS = st.text("甲乙丙丁戊己庚", max_size=14)


def longest_common(one: str, other: str) -> int:
    """By the table that every textbook has."""
    row = [0] * (len(other) + 1)
    for left in one:
        before = 0
        for place, right in enumerate(other, 1):
            before, row[place] = (
                row[place],
                before + 1 if left == right else max(row[place], row[place - 1]),
            )
    return row[-1]


@given(LETTERS, LETTERS)
def test_rouge_l_is_that_of_the_textbook(one: str, other: str) -> None:
    known = 2 * longest_common(one, other) / (len(one) + len(other)) if one and other else None
    assert rouge_l(one, other) == (float(not one and not other) if known is None else known)


@given(st.lists(LETTERS, max_size=12))
def test_what_is_near_is_found_as_by_comparing_all(texts: list[str]) -> None:
    kept, all_kept = KeptTexts(0.7), list[str]()
    for text in texts:
        near = [n for n, one in enumerate(all_kept) if rouge_l(text, one) >= 0.7]
        assert kept.nearest(units_of(text)) == (near[0] if near else NOBODY)
        if not near:
            kept.add(units_of(text))
            all_kept.append(text)


def test_three_quarters_alike_go_and_half_alike_stay() -> None:
    chance = random.Random(0)
    drawn = [[chr(0x4E00 + chance.randrange(3000)) for _ in range(40)] for _ in range(300)]
    kept = KeptTexts(0.7)
    for text in drawn:
        assert kept.nearest(text) == NOBODY
        kept.add(text)
    for number, text in enumerate(drawn):
        for every, left, found in ((4, 0.75, number), (2, 0.5, NOBODY)):
            changed = [chr(0x9000 + n) if n % every == 0 else one for n, one in enumerate(text)]
            assert rouge_l(text, changed) == left
            assert kept.nearest(changed) == found


def test_words_are_compared_where_spaces_part_them() -> None:
    assert units_of("Ｗrite an e-mail，用 LoRA") == ["write", "an", "e", "mail", "用", "lora"]


def judged(instruction: str, answer: str, **settings: Any) -> str:
    judge = RowJudge(GenerateSettings(**settings), ZH, loops)
    found = judge.judge(MadeRow(instruction, answer))
    assert judge.counts == ({found.reason: 1} if found else {})
    return found.reason if found else "kept"


@pytest.mark.parametrize(
    ("instruction", "answer", "reason"),
    [
        ("说明龙井茶产于哪里。", "龙井茶产于杭州。", "kept"),
        ("茶？", "龙井茶产于杭州。", "too short"),
        ("说明龙井茶产于哪里。", "无", "too short"),
        ("说明龙井茶产于哪里。", "杭州" * 10_000, "too long"),
        ("Where does tea come from?", "From Hangzhou.", "other language"),
        ("说明龙井茶产于哪里。", "作为一个AI语言模型，我没有喝过茶。", "refusal"),
        ("说明龙井茶产于哪里。", "抱歉，我不知道。", "refusal"),
        ("给[姓名]写一封信，介绍龙井茶。", "你好，龙井茶产于杭州。", "placeholder"),
        ("介绍XX公司的茶。", "龙井茶产于杭州。", "placeholder"),
        ("说明龙井茶产于哪里。", "说明龙井茶产于哪里。 ", "answer is the question"),
        ("说明龙井茶产于哪里。", "产于杭州西湖产于杭州西湖产于杭州西湖", "loop"),
    ],
)
def test_a_row_goes_for_the_first_thing_that_is_wrong(
    instruction: str, answer: str, reason: str
) -> None:
    assert judged(instruction, answer) == reason


def test_ordinary_answers_are_not_taken_for_faults() -> None:
    for instruction, answer in (
        ("怎样写一封道歉信？", "先说明事情的经过，再真诚地说声对不起，最后提出补救的办法。"),
        ("用 Python 写一个列表，里面有三个名字。", '可以这样写：names = ["小明", "小红", "小刚"]'),
        ("如何礼貌地拒绝别人的请求？", "可以先表示感谢，然后说明自己的理由，再给出别的建议。"),
    ):
        assert judged(instruction, answer) == "kept"


def replies_to(talk: Talk, *texts: str) -> tuple[list[str], MadeRow]:
    """What is asked when these are the replies, and what comes of it."""
    asked = [next(talk)]
    try:
        for text in texts:
            asked.append(talk.send(TalkReply(text, "stop")))
    except StopIteration as end:
        prompts = [one.prompt or one.messages[-1]["content"] for one in asked]
        return prompts, end.value
    raise AssertionError("it asks on")


def test_a_reply_without_json_is_repaired_once() -> None:
    sources = Sources(ZH)
    good = '{"instruction": "写一首关于茶的诗"}'
    prompts, row = replies_to(sources.grid(0), "好的，写一首诗", good, "茶香满室。")
    assert prompts[1] == ZH.repair.format()
    assert (row.instruction, row.answer) == ("写一首关于茶的诗", "茶香满室。")
    assert replies_to(sources.grid(0), "好的", "好的")[1].fault == "no JSON"
    assert instruction_in('{"instruction": "半个\\ud800"}') == "半个?"


def test_every_cell_is_asked_once_before_any_comes_again() -> None:
    sources = Sources(generating_words("en"), seed=3)
    size = sources.words.num_cells
    drawn = Counter(next(sources.grid(number)).messages[0]["content"] for number in range(size))
    assert len(drawn) == size
    again = next(sources.grid(0)).messages[0]["content"]
    assert again == next(Sources(generating_words("en"), seed=3).grid(0)).messages[0]["content"]
    assert again != next(Sources(generating_words("en"), seed=4).grid(0)).messages[0]["content"]


def test_an_instruction_evolves_from_what_is_given() -> None:
    sources = Sources(ZH, seeds=["写一首诗"])
    made = ['{"instruction": "写一首五言诗"}', '{"instruction": "写一首关于秋天的五言诗"}']
    prompts, row = replies_to(sources.evolve(0, 2), *made, "秋风起兮。")
    assert "写一首诗" in prompts[0]
    assert "写一首五言诗" in prompts[1]
    assert prompts[2] == row.instruction == "写一首关于秋天的五言诗"
    assert row.drawn["first"] == "写一首诗"
    assert len(row.drawn["evolutions"]) == 2


def test_a_template_tells_where_the_user_speaks() -> None:
    assert user_turn(NAMED["llama-3"])[1] == "<|eot_id|>"
    assert user_turn(NAMED["alpaca"])[1] == "### Response:"
    opening, stop = user_turn(NAMED["chatml"])
    question = next(Sources(ZH).magpie(opening, stop))
    body = question.body(model="m", temperature=1.0, seed=5, max_tokens=100)
    assert body["prompt"] == "<|im_start|>user\n"
    assert body["stop"] == ["<|im_end|>"]


def test_addresses_are_told_without_keys() -> None:
    assert without_secrets("http://a:b@h:8/v1?k=sk-1#x") == "http://h:8/v1"
