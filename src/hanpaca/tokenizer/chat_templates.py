"""Chat templates of a folder, the default one and those with names, and how their turns end."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jinja2 import TemplateError

from hanpaca.errors import ArtifactError
from hanpaca.files import read_json, read_text

DEFAULT = "default"
TEMPLATE_FILE, NAMED_FOLDER = "chat_template.jinja", "additional_chat_templates"
_PROCESSOR_FILE = "chat_template.json"
_ENDING = ".jinja"
_ANSWER = "hanpacaanswer"
_CONVERSATION = (
    {"role": "user", "content": "hanpacaquestion"},
    {"role": "assistant", "content": _ANSWER},
)

_REFUSALS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template raises on purpose, and what comes of its faults."""


def read_chat_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Read what transformers would take: files first, then the configuration.

    Args:
        folder: Of a tokenizer.
        config: Its `tokenizer_config.json`.

    Returns:
        Template by name; `DEFAULT` names the one that is used where none is asked for.

    Raises:
        ArtifactError: One cannot be read, or is no text.
    """
    found = _of_files(folder)
    if not found:
        found = _of_setting(config.get("chat_template"), folder / "tokenizer_config.json")
    processor = folder / _PROCESSOR_FILE
    if not found and processor.exists():  # not read by transformers' tokenizers, but by llama.cpp's
        found = _of_setting(read_json(processor).get("chat_template"), processor)
    return found


def written_by(template: str, names: Mapping[str, str]) -> list[str]:
    """Write a few conversations by a template, with and without a system prompt and a tool.

    Args:
        template: In Jinja's language; see `template_limits.check_ends` for one that has no end.
        names: Text of the token of each role, such as "eos".

    Returns:
        The texts of those that it does not refuse.
    """
    asked, system = _CONVERSATION[:1], {"role": "system", "content": "hanpacasystem"}
    tool = {
        "type": "function",
        "function": {
            "name": "tool",
            "description": "a tool",
            "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
        },
    }
    call = {"type": "function", "function": {"name": "tool", "arguments": {"a": "b"}}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    talks = (
        (asked, None),
        ((*_CONVERSATION, *asked), None),
        ((system, *_CONVERSATION, *asked), None),
        ((system, *asked), [tool]),
        ((*asked, called, {"role": "tool", "name": "tool", "content": "hanpacaresult"}), [tool]),
    )
    found = (
        _rendered(template, turns, names, tools=tools, add_generation_prompt=True)
        for turns, tools in talks
    )
    return [text for text in found if text is not None]


def end_of_turn(template: str, tokens: Collection[str], names: Mapping[str, str]) -> str | None:
    """Find the token that a template puts after an answer.

    Args:
        template: In Jinja's language.
        tokens: Texts of tokens that may stand there.
        names: Text of the token of each role, such as "eos".

    Returns:
        None where no token follows, or the template refuses the conversation tried.
    """
    text = _rendered(template, _CONVERSATION, names)
    if text is None:
        return None
    _, asked, after = text.rpartition(_ANSWER)
    after = after.lstrip()
    ends = [token for token in tokens if token and after.startswith(token)]
    return max(ends, key=len) if asked and ends else None


def _rendered(
    template: str, turns: Sequence[Mapping[str, Any]], names: Mapping[str, str], **more: object
) -> str | None:
    """A conversation as a template writes it; None where it refuses.

    It may want other turns, or be broken; who uses it will hear of that.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, _ = cast(Any, render_jinja_template)(
            conversations=[[dict(turn) for turn in turns]],
            chat_template=template,
            **more,
            **{f"{role}_token": text for role, text in names.items()},
        )
    except _REFUSALS:
        return None
    return str(texts[0])


def _of_files(folder: Path) -> dict[str, str]:
    found = {}
    if (folder / TEMPLATE_FILE).exists():
        found[DEFAULT] = read_text(folder / TEMPLATE_FILE)
    for file in sorted((folder / NAMED_FOLDER).glob(f"*{_ENDING}")):
        found[file.name.removesuffix(_ENDING)] = read_text(file)
    return found


def _of_setting(value: object, file: Path) -> dict[str, str]:
    """One text, or a list of names and texts."""
    match value:
        case None | "":
            return {}
        case str():
            return {DEFAULT: value}
        case list():
            return dict(_named(one, file) for one in value)
    raise ArtifactError(
        f"{file}: chat_template is of type {type(value).__name__}, but should be a text, or a list "
        "of names and templates"
    )


def _named(entry: object, file: Path) -> tuple[str, str]:
    match entry:
        case {"name": str(name), "template": str(template)} if name:
            return name, template
    raise ArtifactError(
        f"{file}: chat_template has the entry {entry!r:.60}, but each should have a name and a "
        "template, both texts"
    )
