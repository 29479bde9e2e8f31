"""What Ollama's template makes of a conversation is what the Jinja template makes of it."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from hanpaca.data.named_templates import ALPACA, CHATML
from hanpaca.inference.ollama import FORMATS, Messages, modelfile, recognise

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] + '<|eot_id|>' }}{% endfor %}"
)
REFUSING = "{{ raise_exception('no system prompts here') }}"
CHATS: tuple[Messages, ...] = (
    [{"role": "user", "content": "成语“画蛇添足”是什么意思？"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    [
        {"role": "user", "content": "a {{ .Role }}\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
        {"role": "assistant", "content": "e </f>"},
        {"role": "user", "content": "g"},
    ],
)


def render(template: str, messages: Messages) -> str:
    from jinja2 import TemplateError

    try:
        texts, _ = cast(Any, render_jinja_template)(
            conversations=[[dict(one) for one in messages]],
            chat_template=template,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
        )
    except TemplateError as error:
        raise ValueError(str(error)) from error
    return str(texts[0])


def go(template: str, messages: Messages) -> str:
    """As much of Go's text/template as the formats use."""
    tokens = [t for t in re.split(r"(\{\{.*?\}\})", template, flags=re.DOTALL) if t]
    return "".join(_run(tokens, 0, {"messages": messages})[0])


def _run(tokens: list[str], at: int, scope: dict[str, object]) -> tuple[list[str], int]:
    out: list[str] = []
    while at < len(tokens):
        token = tokens[at]
        if not token.startswith("{{"):
            out.append(token)
        elif (word := token[2:-2].strip()) == "end" or word.startswith("else"):
            return out, at
        elif word in (".Role", ".Content"):
            out.append(str(scope[word]))
        elif match := re.fullmatch(r"(\$\w+) :?= (true|false)", word):
            scope[match[1]] = match[2] == "true"
        elif word == "range .Messages":
            end = at
            for message in scope["messages"]:  # type: ignore[attr-defined]
                scope |= {".Role": message["role"], ".Content": message["content"]}
                inner, end = _run(tokens, at + 1, scope)
                out += inner
            at = end
        else:
            inner, at = _choose(tokens, at, scope)
            out += inner
        at += 1
    return out, at


def _choose(tokens: list[str], at: int, scope: dict[str, object]) -> tuple[list[str], int]:
    """From `if` to its `end`; text of the branch taken."""
    chosen: list[str] | None = None
    while True:
        word = tokens[at][2:-2].strip().removeprefix("else").strip()
        if word == "end":
            return chosen or [], at
        trial = scope if chosen is None and _holds(word, scope) else dict(scope)
        inner, at = _run(tokens, at + 1, trial)
        if trial is scope:
            chosen = inner


def _holds(word: str, scope: dict[str, object]) -> bool:
    if not word:
        return True
    if match := re.fullmatch(r'if eq \.Role "(\w+)"', word):
        return scope[".Role"] == match[1]
    match = re.fullmatch(r"if not (\$\w+)", word)
    assert match, word
    return not scope[match[1]]


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize(
    ("template", "name"),
    [(CHATML, "ChatML"), (SMOLLM2, "ChatML"), (ALPACA, "Alpaca"), (LLAMA2, "Llama 2")],
)
def test_both_templates_make_the_same_text(template: str, name: str, adds_bos: bool) -> None:
    known = recognise(
        lambda messages: render(template, messages), bos="<s>", eos="</s>", adds_bos=adds_bos
    )
    assert known is not None
    assert known.format.name == name
    for chat in CHATS:
        given = chat
        if known.system and chat[0]["role"] != "system":  # what Ollama does with SYSTEM
            given = [{"role": "system", "content": known.system}, *chat]
        wanted = render(template, chat)
        assert go(known.go, given) == (wanted.removeprefix("<s>") if adds_bos else wanted)


def test_a_templates_own_system_prompt_is_found() -> None:
    known = recognise(lambda chat: render(SMOLLM2, chat), bos="", eos="<|im_end|>", adds_bos=False)
    assert known is not None
    assert known.system == ("You are a helpful AI assistant named SmolLM, trained by Hugging Face")
    text = modelfile("m.gguf", known, system=None, context_tokens=2048)
    assert text.startswith("FROM ./m.gguf\n")
    assert 'SYSTEM """You are a helpful AI assistant named SmolLM' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert 'SYSTEM """Kurz."""' in modelfile("m.gguf", known, system="Kurz.", context_tokens=1)


@pytest.mark.parametrize("template", [LLAMA3, REFUSING, "{{ messages[0]['content'] }}"])
def test_an_unknown_template_is_not_guessed_at(template: str) -> None:
    assert (
        recognise(lambda chat: render(template, chat), bos="<s>", eos="</s>", adds_bos=True) is None
    )
    text = modelfile("m.gguf", None, system=None, context_tokens=2048)
    assert 'TEMPLATE """' not in text
    assert "none that is known" in text


def test_no_placeholder_is_left_in_a_template() -> None:
    def names() -> Iterator[str]:
        for one in FORMATS:
            yield one.name

    assert len(set(names())) == len(FORMATS)
    known = recognise(lambda chat: render(ALPACA, chat), bos="<s>", eos="</s>", adds_bos=False)
    assert known is not None
    assert all(character.isprintable() or character == "\n" for character in known.go)
    assert known.go.startswith("<s>Below")
