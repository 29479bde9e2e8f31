"""Translations, right and wrong, by hand; chrF against sacreBLEU's own numbers.

`GOLDEN` was written by sacrebleu 2.6.0: `sacrebleu.sentence_chrf(text, [reference]).score`.
"""

import pytest

from hanpaca.evals.tasks.suite.translation import chrf, translates

RIGHT, HALF, WRONG = (True, True), (False, True), (False, False)
SHOP = [
    "This restaurant opens at seven o'clock every morning.",
    "The restaurant opens at 7 a.m. every day.",
]
BRIDGE = [
    "This bridge was built more than a hundred years ago and is still in use today.",
    "The bridge was built over one hundred years ago, and it is still used today.",
]
LETTER = ["没有人知道这封信是谁写的。", "谁也不知道是谁写了这封信。"]
PLANTS = ["植物的生长需要阳光、水和空气。", "植物生长需要阳光、水分和空气。"]
CASES = [
    *(("This restaurant opens at seven o'clock every morning.", SHOP, RIGHT),),
    *(("The restaurant opens at 7 a.m. every day.", SHOP, RIGHT),),
    *(("The restaurant opens at seven every morning.", SHOP, RIGHT),),
    *(("This restaurant opens its doors at 7 o'clock every morning", SHOP, RIGHT),),
    *(("the restaurant opens every morning at seven o'clock", SHOP, RIGHT),),
    *(("This restaurant opens at 7 a.m. every day!", SHOP, RIGHT),),
    *(("The restaurant opens at seven o'clock each morning.", SHOP, RIGHT),),
    *(("This restaurant opens at 7 every morning.\n", SHOP, RIGHT),),
    *(("“This restaurant opens at seven o'clock every morning.”", SHOP, RIGHT),),
    *(("译文：This restaurant opens at seven o'clock every morning.", SHOP, HALF),),
    *(("翻译如下：\nThis restaurant opens at 7 a.m. every day.", SHOP, HALF),),
    *(("The restaurant opens at seven every day.\n\n这句话的意思是餐馆开门的时间。", SHOP, HALF),),
    *(
        (
            "Translation: The restaurant opens at seven every morning.\nI hope this helps you!",
            SHOP,
            RIGHT,
        ),
    ),
    *(
        (
            "Sure, here you are, my friend.\nThis restaurant opens at seven every morning."
            "\nLet me know if you need any more help with it.",
            SHOP,
            HALF,
        ),
    ),
    *(("这家餐馆每天早上七点开门。", SHOP, WRONG), ("", SHOP, WRONG), ("Restaurant", SHOP, WRONG)),
    *(("Dogs bark at night in our street.", SHOP, WRONG), ("I do not know.", SHOP, WRONG)),
    *(("This 餐馆 opens 每天早上七点开门。", SHOP, WRONG), ("Seven.", SHOP, WRONG)),
    *(("The weather is fine and we go for a walk in the park.", SHOP, WRONG),),
    *(("Ce restaurant ouvre tous les matins.", SHOP, WRONG), ("7", SHOP, WRONG)),
    *((" ".join(SHOP * 3), SHOP, WRONG), ("He is a teacher at a school nearby.", SHOP, WRONG)),
    *(("This bridge was built over a hundred years ago and is still in use.", BRIDGE, RIGHT),),
    *(
        (
            "The bridge was built more than 100 years ago, and it is still in use today.",
            BRIDGE,
            RIGHT,
        ),
    ),
    *(("Built more than a hundred years ago, this bridge is still used today.", BRIDGE, RIGHT),),
    *(("The bridge is over one hundred years old and still in use today.", BRIDGE, RIGHT),),
    *(
        (
            "英文：This bridge was built over a hundred years ago and it is still used.",
            BRIDGE,
            HALF,
        ),
    ),
    *(("The train to Shanghai leaves in ten minutes from here.", BRIDGE, WRONG),),
    *(
        ("桥 bridge", BRIDGE, WRONG),
        ("This bridge", BRIDGE, WRONG),
        ("Cats sleep a lot.", BRIDGE, WRONG),
    ),
    *(("这座桥是一百多年前建成的。", BRIDGE, WRONG), ("The hundred", BRIDGE, WRONG)),
    *(("没有人知道这封信是谁写的。", LETTER, RIGHT), ("没人知道这封信是谁写的。", LETTER, RIGHT)),
    *(("没有人知道是谁写了这封信。", LETTER, RIGHT), ("谁也不知道这封信是谁写的", LETTER, RIGHT)),
    *(("無人知道这封信是谁写的。", LETTER, RIGHT), ("没有人知道谁写了这封信。", LETTER, RIGHT)),
    *(("没有谁知道这封信是谁写的。", LETTER, RIGHT),),
    *(("译文：没有人知道这封信是谁写的。", LETTER, RIGHT),),
    *(
        (
            "好的，下面就是您所需要的这一句英文的中文翻译，请看：\n没有人知道这封信是谁写的。",
            LETTER,
            HALF,
        ),
    ),
    *(("Translation:\n没有人知道这封信是谁写的。", LETTER, HALF),),
    *(
        ("没有人知道这封 letter 是谁写的。", LETTER, WRONG),
        ("信", LETTER, WRONG),
        ("？", LETTER, WRONG),
    ),
    *(("Nobody knows who wrote this letter.", LETTER, WRONG), ("", LETTER, WRONG)),
    *(("图书馆星期一闭馆。", LETTER, WRONG), ("我喜欢吃苹果和香蕉。", LETTER, WRONG)),
    *(
        ("没有人知道这封信是谁写的。" * 4, LETTER, WRONG),
        ("今天天气很好，我们去公园散步。", LETTER, WRONG),
    ),
    *(
        ("植物生长需要阳光、水和空气。", PLANTS, RIGHT),
        ("植物需要阳光、水和空气来生长。", PLANTS, RIGHT),
    ),
    *(("植物的生长需要阳光、水分和空气。", PLANTS, RIGHT),),
    *(("植物生长离不开阳光、水和空气", PLANTS, RIGHT),),
    *(("植物要成长，需要阳光、水和空气。", PLANTS, RIGHT),),
    *(("中文：植物需要阳光、水和空气才能生长。", PLANTS, RIGHT),),
    *(("需要 sunlight、water 和 air。", PLANTS, WRONG), ("Plants need air.", PLANTS, WRONG)),
    *(("动物吃草。", PLANTS, WRONG), ("火车十分钟后开。", PLANTS, WRONG), ("植物", PLANTS, WRONG)),
    *(("她微笑着说一切都会好的。", PLANTS, WRONG), ("我不会翻译这句话。", PLANTS, WRONG)),
]
GOLDEN: list[tuple[str, str, float]] = [
    ("the cat", "the cat sat", 55.771011),
    (
        "The restaurant opens at seven every morning.",
        "This restaurant opens at seven o'clock every morning.",
        72.520688,
    ),
    ("没人知道这封信是谁写的。", "没有人知道这封信是谁写的。", 83.325850),
    (
        "Dogs bark at night in our street.",
        "This restaurant opens at seven o'clock every morning.",
        11.915503,
    ),
    ("植物", "植物的生长需要阳光、水和空气。", 12.478236),
    ("a", "b", 0.000000),
    ("ab cd", "abcd", 100.000000),
    ("去上海的火车十分钟后开。", "开往上海的火车将在十分钟后出发。", 32.181542),
    ("", "猫", 0.000000),
    ("ab", "abcdefgh", 23.404255),
]


@pytest.mark.parametrize(("text", "references", "verdict"), CASES)
def test_a_translation_is_near_a_reference_or_not(
    text: str, references: list[str], verdict: tuple[bool, bool]
) -> None:
    assert translates(text, references)[:2] == verdict


@pytest.mark.parametrize(("text", "reference", "score"), GOLDEN)
def test_chrf_is_that_of_sacrebleu(text: str, reference: str, score: float) -> None:
    assert chrf(text, reference) == pytest.approx(score, abs=1e-4)


def test_there_are_sixty() -> None:
    assert len(CASES) >= 60
