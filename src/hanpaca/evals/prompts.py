"""The six questions every model is asked, before and after training.

They are fixed so that reports of different runs can be laid side by side. They show what answers
look like; the numbers come from held-out texts and held-out questions, never from these.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Prompt:
    """One fixed question and the language it is asked in."""

    name: str
    text: str
    language: Literal["zh", "en"]


PROMPTS: tuple[Prompt, ...] = (
    Prompt("idiom meaning", "成语“画蛇添足”是什么意思？", "zh"),
    Prompt("idiom by meaning", "哪个成语形容做事只做一半就放弃？", "zh"),
    Prompt("knowledge", "中国最长的河流是哪一条？", "zh"),
    Prompt("instruction", "请用两三句话介绍一下春天。", "zh"),
    Prompt("English knowledge", "What is the capital of France?", "en"),
    Prompt("English instruction", "Write two sentences about why sleep matters.", "en"),
)
