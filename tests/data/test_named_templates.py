"""Templates by name, byte for byte as those who published them write them."""

from typing import Any, cast, get_args

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from hanpaca.choices import TemplateName
from hanpaca.data.named_templates import NAMED
from hanpaca.steps.chat import read_template

S = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
ONE = [{"role": "user", "content": "写诗"}]
TWO = [*ONE, {"role": "assistant", "content": "春眠"}, {"role": "user", "content": "再写"}]
SYSTEM = {"role": "system", "content": "Be brief."}
LANGCHAIN = (
    "Below is an instruction that describes a task. \n"
    "                    Write a response that appropriately completes the request.\n\n\n"
    "                    ### Instruction:\n写诗\n\n### Response: "
)
HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"


def written(name: str, messages: list[dict[str, str]], *, prompt: bool = True) -> str:
    texts, _ = cast(Any, render_jinja_template)(
        conversations=[messages],
        chat_template=NAMED[name],
        add_generation_prompt=prompt,
        bos_token="<s>",
        eos_token="</s>",
    )
    return str(texts[0])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("alpaca-training", f"{S}\n\n### Instruction:\n写诗\n\n### Response: "),
        ("alpaca-inference", f"{S}\n\n### Instruction:\n\n写诗\n\n### Response:\n\n"),
        ("alpaca-gradio", f"{S}\n    \n### Instruction:\n写诗\n\n### Response: "),
        ("alpaca-langchain", LANGCHAIN),
        ("alpaca-llama.cpp", f"{S}\n\n### Instruction:\n\n写诗\n\n### Response:\n\n"),
        ("llama-2", "[INST] 写诗 [/INST]"),
        ("chatml", "<|im_start|>user\n写诗<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_one_question_is_asked_as_it_was_published(name: str, wanted: str) -> None:
    assert written(name, ONE).removeprefix("<s>") == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "alpaca-gradio",
            f"{S}\n    \n### Instruction:\n写诗\n\n### Response: 春眠\n\n"
            "### Instruction:\n再写\n\n### Response: ",
        ),
        (
            "alpaca-llama.cpp",
            f"{S}\n\n### Instruction:\n\n写诗\n\n### Response:\n\n春眠"
            "\n\n### Instruction:\n\n再写\n\n### Response:\n\n",
        ),
        ("llama-2", "[INST] 写诗 [/INST] 春眠 </s><s>[INST] 再写 [/INST]"),
    ],
)
def test_a_second_question_follows_as_it_was_published(name: str, wanted: str) -> None:
    assert written(name, TWO).removeprefix("<s>") == wanted


def test_llama_2_and_3_have_a_system_prompt() -> None:
    assert written("llama-2", [SYSTEM, *ONE]) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n写诗 [/INST]"
    )
    assert written("llama-3", [SYSTEM, *ONE]) == (
        f"<s>{HEADER.format('system', 'Be brief.')}{HEADER.format('user', '写诗')}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("name", sorted(NAMED))
def test_an_answer_follows_its_prompt_and_ends(name: str) -> None:
    answered = [*TWO, {"role": "assistant", "content": "不觉"}]
    prompt, text = written(name, TWO), written(name, answered, prompt=False)
    assert text.startswith(prompt)
    ends = {"chatml": "<|im_end|>", "llama-3": "<|eot_id|>"}
    assert text[len(prompt) :].strip() in (f"不觉{ends.get(name, '</s>')}", "不觉 </s>")


def test_settings_name_every_one() -> None:
    assert {"base", *NAMED} == set(get_args(TemplateName))


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_chat_takes_each_by_its_name(name: str) -> None:
    assert read_template(name) == NAMED[name]
