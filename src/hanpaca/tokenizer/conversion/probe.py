"""Texts that find faults: many scripts and signs, and the pieces of a tokenizer themselves."""

import random
from collections.abc import Sequence

PROBE = (
    "The quick brown fox jumps over the lazy dog, doesn't it?  People create theories.\n\n",
    "def f(x: int) -> str:\n\treturn f'{x:>12.3f}' if x != 0x1F else None  # 100%\r\n",
    "1984, 3.14159, 12:30, $1,000.00, 50 %, +1-2*3/4^5, a_b.c@d.org, https://e.org/?q=1&r=2#s",
    "Größe, naïveté, señor, œuvre, İstanbul, Łódź, tiếng Việt; “quotes” — dashes… • → ≤ ½ ฿ € ₩",
    "Привет, мир! Γειά σου κόσμε. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया। สวัสดีชาวโลก",
    "こんにちは、カタカナ。「ー」 한국어 안녕하세요 ㄅㄆㄇ",
    "，。！？；：（）《》【】、·　＠ＡＢＣ１２３",
    "e\u0301 a\u0328\u0301 ﬁ Ⅳ ² ㍿ ｶﾞ \u1112\u1161\u11ab \u0915\u093c ㎏ ℃\r\n\r\nA\u030a",
    "😀👩‍💻🇨🇳 🎉\u200b\u200d\ufeff\x00\x04\x7f\u00a0\u3000\t \n  \r\n   end ",
)
_REPEATED = " \n\t-=_.*#/~0a▁"
_MAX_REPEATS = 70  # more than four times LLaMA's longest run of spaces
_NUM_JOINS = 20_000


def stress_texts(pieces: Sequence[str]) -> list[str]:
    """Make texts in which merges compete: pieces alone, runs, and random pieces side by side.

    Args:
        pieces: the texts of learned pieces.
    """
    runs = [sign * length + end for sign in _REPEATED for length in range(1, _MAX_REPEATS)
            for end in ("", "x", " the")]  # fmt: skip
    chance = random.Random(0)
    joins = [
        chance.choice(("", "", " ", "\n")).join(chance.choices(pieces, k=chance.randint(2, 4)))
        for _ in range(_NUM_JOINS)
    ]
    return [*PROBE, *pieces, *runs, *joins]
