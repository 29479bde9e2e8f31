"""What a setting is chosen from by name."""

from collections.abc import Mapping
from typing import Literal

TemplateName = Literal[
    "base",
    "chatml",
    "alpaca",
    "alpaca-training",
    "alpaca-inference",
    "alpaca-gradio",
    "alpaca-langchain",
    "alpaca-llama.cpp",
    "llama-2",
    "llama-3",
]
"""`base`, and what `hanpaca.data.named_templates` holds."""

# fmt: off
FileType = Literal[
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s",
    "iq4_nl", "iq4_xs", "q4_1", "q4_0", "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
]
# fmt: on
"""Kinds of GGUF files, finest first; q2_k_s is not among them, as it needs an importance matrix."""

TaskName = Literal[
    "law_of_article",
    "idiom_of_meaning",
    "idiom_character",
    "word_of_meaning",
    "parameter_name",
    "interface_phrase",
]
"""Questions on held-out items of builtin texts, whose answers a program can judge."""
TASK_SOURCES: Mapping[TaskName, str] = {
    "law_of_article": "builtin:laws",
    "idiom_of_meaning": "builtin:idioms",
    "idiom_character": "builtin:idioms",
    "word_of_meaning": "builtin:words",
    "parameter_name": "builtin:cloud",
    "interface_phrase": "builtin:interface",
}
"""The text that each is about."""
BUILTIN_TEXTS = tuple(dict.fromkeys(TASK_SOURCES.values()))
"""Texts and instructions out of installed packages."""
