"""What the page says, in English and Chinese."""

from typing import Literal

Language = Literal["en", "zh"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "model": "Model",
        "beside": "Beside it",
        "none": "no other model",
        "first": "First model",
        "second": "Second model",
        "ask": "Ask something …",
        "empty": "Everything stays on this machine.",
        "new": "New",
        "save": "Save",
        "load": "Load",
        "settings": "Settings",
        "system": "System prompt",
        "max_tokens": "Most tokens of an answer",
        "temperature": "Temperature",
        "temperature_info": "0 always takes the likeliest token",
        "top_k": "Top k",
        "top_k_info": "draw from so many tokens; 0 for all",
        "top_p": "Top p",
        "top_p_info": "draw from tokens of this probability",
        "min_p": "Min p",
        "min_p_info": "least share of the likeliest token's",
        "repeat_penalty": "Repeat penalty",
        "repeat_penalty_info": "1 for none",
        "seed": "Seed",
        "seed_info": "for temperatures above 0",
        "waiting": "reading …",
        "rate": "{characters} characters · {rate} a second · first after {waited} s",
        "short": "{characters} characters · first after {waited} s",
        "cut": "cut off at the most tokens",
        "nothing": "There is nothing to ask again.",
    },
    "zh": {
        "model": "模型",
        "beside": "对比模型",
        "none": "不对比",
        "first": "第一个模型",
        "second": "第二个模型",
        "ask": "请输入问题……",
        "empty": "所有内容都只留在本机。",
        "new": "新对话",
        "save": "保存",
        "load": "载入",
        "settings": "设置",
        "system": "系统提示词",
        "max_tokens": "回答的最多词元数",
        "temperature": "温度",
        "temperature_info": "0：总是取最可能的词元",
        "top_k": "Top k",
        "top_k_info": "只在最可能的若干词元中抽取；0 为全部",
        "top_p": "Top p",
        "top_p_info": "只在累计概率达到此值的词元中抽取",
        "min_p": "Min p",
        "min_p_info": "与最可能词元之比的下限",
        "repeat_penalty": "重复惩罚",
        "repeat_penalty_info": "1 为不惩罚",
        "seed": "随机种子",
        "seed_info": "温度大于 0 时有效",
        "waiting": "正在阅读……",
        "rate": "{characters} 字 · 每秒 {rate} 字 · 首字 {waited} 秒",
        "short": "{characters} 字 · 首字 {waited} 秒",
        "cut": "已到最多词元数，回答被截断",
        "nothing": "没有可以重问的问题。",
    },
}
CHINESE = ("zh", "zh-CN", "zh-TW", "zh-HK", "zh-SG")
"""Locales of browsers that are shown Chinese."""


def language(accepted: str | None) -> Language:
    """Which of the two a browser's `Accept-Language` prefers; English where it names neither.

    >>> language("zh-CN,zh;q=0.9,en;q=0.8"), language("fr,zh;q=0.2,en;q=0.5")
    ('zh', 'en')
    """
    best: tuple[float, Language] = (0.0, "en")
    for part in (accepted or "").split(","):
        tag, _, weight = part.strip().partition(";q=")
        name = tag.split("-")[0].lower()
        try:
            likes = float(weight or 1)
        except ValueError:
            continue
        if name == "zh" and likes > best[0]:
            best = likes, "zh"
        elif name == "en" and likes > best[0]:
            best = likes, "en"
    return best[1]
