"""Instructions kept and not kept, by hand: each is the answer, strict, loose."""

from typing import Any

import pytest

from hanpaca.evals.tasks.suite.instructions import INSTRUCTIONS, followed

KEPT, NEARLY, NOT = (True, True), (False, True), (False, False)
POEM = "春风吹绿草\n细雨落花间\n燕子归来早\n人家笑语连"
HIDDEN = "天光照远山\n天边有归雁\n向晚炊烟起\n上楼看月圆"
SEVEN = "秋风吹过小山村，\n落叶飘飘到我门。\n稻谷金黄香十里，\n农家笑语满黄昏。"
LIST = "一、多读书。\n二、多运动。\n三、早睡觉。"
BULLETS = "- 水\n- 面包\n- 地图"
JSON = '{"主食": "面包", "饮料": "牛奶"}'
CASES: list[tuple[str, Any, str, tuple[bool, bool]]] = [
    *(("han", [4, 6], "春风拂面。", KEPT), ("han", [4, 6], "春风又到江南岸了", NOT)),
    *(("han", [10, 20], "春" * 10, KEPT), ("han", [10, 20], "春" * 20, KEPT)),
    *(("han", [10, 20], "春" * 9, NEARLY), ("han", [10, 20], "春" * 22, NEARLY)),
    *(
        ("han", [10, 20], "春" * 8, NOT),
        ("han", [10, 20], "春" * 23, NOT),
        ("han", [0, 9], "", NOT),
    ),
    *(("han", [4, 6], "春风，拂面！abc 123", KEPT), ("han", [2, 3], "abc", NOT)),
    ("han", [10, 20], "好的，这是您要的短文：\n" + "春" * 15, NEARLY),
    *(("words", [3, 5], "Sleep heals the body.", KEPT), ("words", [3, 5], "Sleep.", NOT)),
    *(("words", [2, 2], "don't stop", KEPT), ("words", [2, 2], "well-known fact", KEPT)),
    *(("words", [10, 12], "w " * 9, NEARLY), ("words", [10, 12], "w " * 14, NOT)),
    *(("paragraphs", 3, "一。\n\n二。\n\n三。", KEPT), ("paragraphs", 3, "一。\n二。\n三。", KEPT)),
    *(("paragraphs", 3, "一。\n\n二。", NOT), ("paragraphs", 1, "一。二。三。", KEPT)),
    *(
        ("paragraphs", 2, "一。\n续。\n\n二。", KEPT),
        ("paragraphs", 2, "题目\n\n一。\n\n二。", NEARLY),
    ),
    ("paragraphs", 3, "一。\n\n二。\n\n三。\n\n四。\n\n五。\n\n六。", NOT),
    *(("sentences", 3, "一。二！三？", KEPT), ("sentences", 3, "一。二。", NOT)),
    *(("sentences", 1, "没有句号", KEPT), ("sentences", 2, "“走吧！”他说好。", KEPT)),
    *(("sentences", 2, "It is 3.5 m. It is old.", KEPT), ("sentences", 1, "Really?!", KEPT)),
    *(("sentences", 1, "Dr. Smith sees rocks.", KEPT), ("sentences", 2, "等一下……好了。", KEPT)),
    *(("sentences", 1, "A hill. It burns.", NOT), ("sentences", 2, "好的。\n一。二。", NEARLY)),
    *(("items", 3, BULLETS, KEPT), ("items", 3, "1. 水\n2. 面包\n3. 地图", KEPT)),
    *(
        ("items", 3, "要带：\n" + BULLETS, KEPT),
        ("items", 3, "（一）水\n（二）面包\n（三）图", KEPT),
    ),
    *(
        ("items", 3, "水、面包、地图", NOT),
        ("items", 2, BULLETS, NEARLY),
        ("items", 4, BULLETS, NOT),
    ),
    *(("items", 1, "-3 度", NOT), ("items", 2, "1、水\n2）面包", KEPT)),
    *(("lines", 4, POEM, KEPT), ("lines", 4, "春\n\n" + POEM, NEARLY), ("lines", 3, POEM, NEARLY)),
    *(("lines", 1, POEM, NOT), ("lines", 2, "Happy New Year!\n新年快乐！", KEPT)),
    *(("chinese_list", 3, LIST, KEPT), ("chinese_list", 3, "建议如下：\n" + LIST, KEPT)),
    *(("chinese_list", 2, LIST, NEARLY), ("chinese_list", 3, BULLETS, NOT)),
    *(
        ("chinese_list", 3, "一、甲\n三、乙\n二、丙", NOT),
        ("chinese_list", 3, "一、甲二、乙三、丙", NOT),
    ),
    ("chinese_list", 3, "1、甲\n2、乙\n3、丙", NOT),
    *(("titles", 2, "《家》和《春》", KEPT), ("titles", 2, "《家》《家》", NOT)),
    *(
        ("titles", 2, "《家》《春》《秋》", KEPT),
        ("titles", 1, "“家”", NOT),
        ("titles", 1, "《》", NOT),
    ),
    *(("contains", ["氧气"], "森林放出氧气。", KEPT), ("contains", ["氧气"], "森林很好。", NOT)),
    *(
        ("contains", ["氧气", "水土"], "有氧气", NOT),
        ("contains", ["thank you"], "Thank you!", KEPT),
    ),
    *(("excludes", ["、"], "水，火", KEPT), ("excludes", ["、"], "水、火", NOT)),
    *(("excludes", ["light"], "A Lighthouse", NOT), ("excludes", ["雨"], "一把好伞", KEPT)),
    ("excludes", ["！"], "好的！\n祝贺你。", NEARLY),
    *(("times", {"山": 2}, "山外有山", KEPT), ("times", {"山": 2}, "山外有水", NOT)),
    *(("han_a_line", 5, POEM, KEPT), ("han_a_line", 7, SEVEN, KEPT), ("han_a_line", 7, POEM, NOT)),
    *(
        ("han_a_line", 5, "春风吹绿草，细雨\n落花间", NOT),
        ("han_a_line", 5, "咏春\n" + POEM, NEARLY),
    ),
    *(("acrostic", "天天向上", HIDDEN, KEPT), ("acrostic", "天天向上", POEM, NOT)),
    *(("acrostic", "天天向上", "好好\n" + HIDDEN, NEARLY), ("acrostic", "天天", HIDDEN, NOT)),
    ("acrostic", "天天向上", "天\n天\n上\n向", NOT),
    *(("begins", "首先", "首先，要休息。", KEPT), ("begins", "首先", "要首先休息。", NOT)),
    *(
        ("begins", "首先", "好的。\n首先，休息。", NEARLY),
        ("begins", "首先", "**首先**，休息", NEARLY),
    ),
    *(("ends", "谢谢。", "就是这样。谢谢。", KEPT), ("ends", "谢谢。", "谢谢", NOT)),
    *(("ends", "谢谢。", "好。谢谢。\n以上。", NEARLY), ("ends", "谢谢。", "好。谢谢。 \n", KEPT)),
    *(
        ("script", "traditional", "中秋節是團圓的日子。", KEPT),
        ("script", "traditional", "中秋节", NOT),
    ),
    *(("script", "traditional", "山水", NOT), ("script", "traditional", "節日和节日", NOT)),
    *(
        ("script", "simplified", "中秋节到了。", KEPT),
        ("script", "simplified", "中秋節到了。", NOT),
    ),
    *(
        ("script", "traditional", "看著月亮，我們說話。", KEPT),
        ("script", "traditional", "moon", NOT),
    ),
    ("script", "traditional", "以下是繁体文字：\n月圓人團圓。", NEARLY),
    *(("no_latin", True, "机器会学习。", KEPT), ("no_latin", True, "AI 会学习。", NOT)),
    *(("no_latin", True, "有 3 个。", KEPT), ("no_latin", True, "好 (OK)：\n机器会学习。", NEARLY)),
    *(("no_han", True, "The wall is long.", KEPT), ("no_han", True, "The 长城", NOT)),
    *(("json", ["主食", "饮料"], JSON, KEPT), ("json", ["水果"], JSON, NOT)),
    *(
        ("json", ["主食"], f"```json\n{JSON}\n```", KEPT),
        ("json", ["主食"], f"如下：\n{JSON}", NEARLY),
    ),
    *(("json", ["主食"], "{主食: 面包}", NOT), ("json", ["主食"], '["主食"]', NOT)),
    *(("json", ["主食"], JSON[:-1], NOT), ("json", ["主食"], "主食：面包", NOT)),
]


@pytest.mark.parametrize(("kind", "wanted", "text", "verdict"), CASES)
def test_an_instruction_is_kept_or_not(
    kind: str, wanted: Any, text: str, verdict: tuple[bool, bool]
) -> None:
    assert followed(text, {kind: wanted}) == {kind: verdict}


def test_there_are_sixty_and_every_instruction_is_kept_and_broken() -> None:
    assert len(CASES) >= 60
    for kind in INSTRUCTIONS:
        found = {verdict for one, _, _, verdict in CASES if one == kind}
        assert {KEPT, NOT} <= found, kind
