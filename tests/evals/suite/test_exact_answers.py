"""Names and numbers in answers, right and wrong, by hand."""

import pytest

from hanpaca.evals.tasks.suite.exact import names_answer, names_number

Names = tuple[list[str], list[str]]
RIGHT, WORDY, WRONG = (True, True), (False, True), (False, False)
MARS: Names = (["Mars"], ["Jupiter", "Venus"])
JUPITER: Names = (["木星"], ["土星", "地球"])
PEAK: Names = (["珠穆朗玛峰", "珠峰"], [])
WATER: Names = (["H2O"], [])
FEARS: Names = (["怕"], ["不怕"])
NO: Names = (["no"], ["yes"])
LI: Names = (["小李"], ["小张", "小王"])
BAND: Names = (["Beatles"], [])
LINE: Names = (["疑是地上霜"], [])

NAMES = [
    *(("Mars", MARS, RIGHT), ("mars.", MARS, RIGHT), ("**Mars**", MARS, RIGHT)),
    *(("It is Mars.", MARS, RIGHT), ("The answer is: Mars", MARS, RIGHT)),
    ("Mars is known as the Red Planet because of iron oxide.", MARS, WORDY),
    ("The Red Planet is Mars, not Jupiter.", MARS, WORDY),
    ("It isn't Venus, it is Mars.", MARS, WORDY),
    ("火星 (Mars)", MARS, WORDY),
    *(("Marsupial", MARS, WRONG), ("Marseille is a city", MARS, WRONG), ("Jupiter", MARS, WRONG)),
    *(("Mars or Jupiter", MARS, WRONG), ("It is not Mars.", MARS, WRONG), ("", MARS, WRONG)),
    ("It isn't Mars.", MARS, WRONG),
    *(("木星", JUPITER, RIGHT), ("木星。", JUPITER, RIGHT), ("答案是木星。", JUPITER, RIGHT)),
    *(("答案：木星", JUPITER, RIGHT), ("“木星”", JUPITER, RIGHT), ("\n木星\n", JUPITER, RIGHT)),
    ("是木星！", JUPITER, RIGHT),
    ("太阳系中体积最大的行星是木星。", JUPITER, WORDY),
    ("不是土星，而是木星。", JUPITER, WORDY),
    ("木星的体积是所有行星里最大的，质量也是。", JUPITER, WORDY),
    *(("土星", JUPITER, WRONG), ("木星和土星", JUPITER, WRONG), ("不是木星", JUPITER, WRONG)),
    *(("并非“木星”", JUPITER, WRONG), ("木卫一", JUPITER, WRONG), ("我不知道。", JUPITER, WRONG)),
    ("木星比地球大", JUPITER, WRONG),
    *(("珠峰", PEAK, RIGHT), ("珠穆朗玛峰。", PEAK, RIGHT), ("是《珠穆朗玛峰》", PEAK, RIGHT)),
    *(("世界最高峰叫珠穆朗玛峰，在中国和尼泊尔边界。", PEAK, WORDY), ("乔戈里峰", PEAK, WRONG)),
    *(("珠江", PEAK, WRONG), ("珠穆朗玛", PEAK, WRONG)),
    *(("H2O", WATER, RIGHT), ("H₂O", WATER, RIGHT), ("Ｈ２Ｏ。", WATER, RIGHT)),
    *(("`H2O`", WATER, RIGHT), ("水的化学式是H2O。", WATER, WORDY), ("h2o是水", WATER, WORDY)),
    *(("H2O2", WATER, WRONG), ("CO2", WATER, WRONG), ("CH2O", WATER, WRONG), ("HO", WATER, WRONG)),
    *(("怕", FEARS, RIGHT), ("怕。", FEARS, RIGHT), ("咪咪怕水。", FEARS, WORDY)),
    *(("不怕", FEARS, WRONG), ("它不怕水", FEARS, WRONG), ("会", FEARS, WRONG)),
    *(("No.", NO, RIGHT), ("no", NO, RIGHT), ("No, it does not follow.", NO, WORDY)),
    *(("Yes.", NO, WRONG), ("It is not known", NO, WRONG), ("yes and no", NO, WRONG)),
    ("None of them", NO, WRONG),
    *(("小李", LI, RIGHT), ("小李会游泳。", LI, WORDY), ("不是小张，是小李。", LI, WORDY)),
    *(("小张", LI, WRONG), ("小张或小李", LI, WRONG), ("李四", LI, WRONG)),
    *(("The Beatles", BAND, RIGHT), ("It was the Beatles.", BAND, RIGHT)),
    *(("The Beatles' album", BAND, WORDY), ("The Rolling Stones", BAND, WRONG)),
    *(("疑是地上霜", LINE, RIGHT), ("下一句是“疑是地上霜”。", LINE, WORDY)),
    *(("举头望明月", LINE, WRONG), ("疑似地上霜", LINE, WRONG)),
]
NUMBERS = [
    *(("57", 57, RIGHT), ("57元", 57, RIGHT), ("57。", 57, RIGHT), ("答案是57。", 57, RIGHT)),
    *(("答案：57元", 57, RIGHT), ("五十七", 57, RIGHT), ("五十七元。", 57, RIGHT)),
    *(("**57**", 57, RIGHT), ("５７", 57, RIGHT), ("57.0", 57, RIGHT), ("is 57", 57, RIGHT)),
    *(("The answer is 57.", 57, RIGHT), ("公元前221年", 221, RIGHT), ("1969.", 1969, RIGHT)),
    *(("1,969", 1969, RIGHT), ("-3", -3, RIGHT), ("两根", 2, RIGHT), ("十一", 11, RIGHT)),
    *(("三十二枚", 32, RIGHT), ("一百零五", 105, RIGHT), ("两千零二十四", 2024, RIGHT)),
    *(("一九六九", 1969, RIGHT), ("东八区", 8, RIGHT), ("一万二千", 12000, RIGHT), ("8", 8, RIGHT)),
    ("3×9+6×5=57，一共花了57元。", 57, WORDY),
    ("小明一共花了57元钱。", 57, WORDY),
    ("首先算出铅笔的钱是27元，然后加上笔记本的30元，得到57元。", 57, WORDY),
    ("27 + 30 = 57", 57, WORDY),
    ("27 + 30 = **57** yuan in total", 57, WORDY),
    ("答案是57，因为27加30等于57，其中铅笔27元，本子30元。", 57, WORDY),
    ("答案：57元。验算：57-30=27。", 57, WORDY),
    ("So there are 1,024 legs altogether.", 1024, WORDY),
    ("$\\boxed{57}$，其中 27 是铅笔的。", 57, WORDY),
    ("最终结果是57元（27+30）", 57, WORDY),
    ("一共有三十二枚棋子，双方各十六枚，合起来是三十二枚。", 32, WORDY),
    ("温度是零下三度，即 -3 度，也就是 -3。", -3, WORDY),
    ("棋盘上一共有三十二枚棋子。", 32, WORDY),
    *(("58", 57, WRONG), ("", 57, WRONG), ("不知道", 57, WRONG), ("570", 57, WRONG)),
    *(("5.7", 57, WRONG), ("157元", 57, WRONG), ("57,000", 57, WRONG), ("57.5", 57, WRONG)),
    *(("-57", 57, WRONG), ("五十八", 57, WRONG), ("五七十", 57, WRONG), ("答案是58。", 57, WRONG)),
    *(("一样多", 1, WRONG), ("一共很多", 1, WRONG), ("第一", 1, WRONG), ("五", 50, WRONG)),
    ("57+1=58", 57, WRONG),
    ("27+30=57，再减去3，等于54元。", 57, WRONG),
    ("答案是54，不是57。", 57, WRONG),
    ("The answer is 58, since 57 is too small: 57", 57, WRONG),
    *(("fifty-seven", 57, WRONG), ("3", -3, WRONG), ("2025", 2024, WRONG), ("百", 1000, WRONG)),
    *(("1969 or 1970", 1969, WRONG), ("3-57", 3, WRONG), ("三百", 3, WRONG), ("H2O", 3, WRONG)),
]


@pytest.mark.parametrize(("text", "rule", "wanted"), NAMES)
def test_a_name_is_found_however_it_is_worded(
    text: str, rule: Names, wanted: tuple[bool, bool]
) -> None:
    assert names_answer(text, *rule) == wanted


@pytest.mark.parametrize(("text", "number", "wanted"), NUMBERS)
def test_a_number_is_what_an_answer_comes_to(
    text: str, number: float, wanted: tuple[bool, bool]
) -> None:
    assert names_number(text, number) == wanted


def test_there_are_sixty_answers_of_each_kind() -> None:
    assert len(NAMES) >= 60
    assert len(NUMBERS) >= 60
