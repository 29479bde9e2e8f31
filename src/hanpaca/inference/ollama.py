"""Ollama's Modelfile: a chat template in Go's template language for one in Jinja.

A template is recognised by the text it makes, not by how it is written. One that makes other text
than every format known here is not guessed at: Ollama would ask the model in words it never saw.

Format: https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hanpaca.errors import ArtifactError

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages], str]
"""A conversation that ends with the user, to the text the model goes on from."""
_QUOTES = '"""'
_FIRST, _BOS, _EOS = "\x01", "\x02", "\x03"
_HELLO = {"role": "user", "content": "Hello there."}
_TALK = (
    _HELLO,
    {"role": "assistant", "content": "Hi: 你好！"},
    {"role": "user", "content": "What is 1 + 1?"},
)
_SYSTEM = {"role": "system", "content": "You answer in Chinese."}
_SAMPLES: tuple[Messages, ...] = ((_SYSTEM, _HELLO), (_SYSTEM, *_TALK))
_WITHOUT_SYSTEM: tuple[Messages, ...] = ((_HELLO,), _TALK)


@dataclass(frozen=True)
class ChatFormat:
    """A way to write a conversation; `_FIRST`, `_BOS` and `_EOS` stand for tokens."""

    name: str
    go: str
    """In Go's template language."""
    write: Callable[[Messages], str]
    """In Python."""
    system_marks: tuple[str, str]
    """What stands before and after a system prompt."""
    stops: tuple[str, ...]


@dataclass(frozen=True)
class KnownTemplate:
    """What was recognised."""

    format: ChatFormat
    first: str
    """What a text begins with: empty where the runner puts the start token there by itself."""
    bos: str
    eos: str
    system: str | None
    """The template's own system prompt, where a conversation has none."""

    @property
    def go(self) -> str:
        """The template for Ollama."""
        return _with_tokens(self.format.go, self.first, self.bos, self.eos)

    @property
    def stops(self) -> tuple[str, ...]:
        """Where an answer ends."""
        return tuple(dict.fromkeys((*self.format.stops, *([self.eos] if self.eos else []))))


def _chatml(messages: Messages) -> str:
    parts = [f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in messages]
    return "".join(parts) + "<|im_start|>assistant\n"


def _alpaca(messages: Messages) -> str:
    parts = [
        f"### Response:\n\n{one['content']}{_EOS}\n\n"
        if one["role"] == "assistant"
        else f"### Instruction:\n{one['content']}\n\n"
        for one in messages
    ]
    return f"{_FIRST}{_ALPACA_OPENING}\n\n{''.join(parts)}### Response:\n\n"


def _llama2(messages: Messages) -> str:
    text, opened = _FIRST, False
    for one in messages:
        match one["role"]:
            case "system":
                text, opened = f"{text}[INST] <<SYS>>\n{one['content']}\n<</SYS>>\n\n", True
            case "user":
                text += f"{'' if opened else '[INST] '}{one['content']} [/INST]"
                opened = False
            case _:
                text += f" {one['content']} {_EOS}{_BOS}"
    return text


_ALPACA_OPENING = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
FORMATS = (
    ChatFormat(
        "ChatML",
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n",
        _chatml,
        ("<|im_start|>system\n", "<|im_end|>"),
        ("<|im_end|>", "<|im_start|>"),
    ),
    ChatFormat(
        "Alpaca",
        f"{_FIRST}{_ALPACA_OPENING}\n\n"
        '{{ range .Messages }}{{ if eq .Role "assistant" }}### Response:\n\n{{ .Content }}'
        f"{_EOS}\n\n"
        "{{ else }}### Instruction:\n{{ .Content }}\n\n{{ end }}{{ end }}### Response:\n\n",
        _alpaca,
        ("", ""),
        ("### Instruction:",),
    ),
    ChatFormat(
        "Llama 2",
        _FIRST + '{{ $opened := false }}{{ range .Messages }}{{ if eq .Role "system" }}'
        "[INST] <<SYS>>\n{{ .Content }}\n<</SYS>>\n\n{{ $opened = true }}"
        '{{ else if eq .Role "user" }}{{ if not $opened }}[INST] {{ end }}'
        "{{ .Content }} [/INST]{{ $opened = false }}"
        f"{{{{ else }}}} {{{{ .Content }}}} {_EOS}{_BOS}{{{{ end }}}}{{{{ end }}}}",
        _llama2,
        ("<<SYS>>\n", "\n<</SYS>>"),
        ("[INST]",),
    ),
)


def recognise(render: Render, *, bos: str, eos: str, adds_bos: bool) -> KnownTemplate | None:
    """Find the format that makes the same text of sample conversations as a Jinja template.

    Args:
        render: The Jinja template; it may raise ValueError for conversations it refuses.
        bos: Text of the start token; empty if there is none.
        eos: Text of the end token.
        adds_bos: llama.cpp puts the start token before each text by itself.
    """
    for one in FORMATS:
        try:
            system = _fits(one, render, bos, eos)
        except ValueError:
            continue
        if system is not None:
            return KnownTemplate(one, "" if adds_bos else bos, bos, eos, system[0])
    return None


def modelfile(
    gguf: str, template: KnownTemplate | None, *, system: str | None, context_tokens: int
) -> str:
    """The text of a Modelfile beside a GGUF file.

    Raises:
        ArtifactError: The system prompt holds what ends it in a Modelfile.
    """
    lines = [f"FROM ./{gguf}", ""]
    if template is None:
        lines += [
            "# The model's chat template is none that is known here; Ollama tries to recognise it.",
            "# If answers look wrong, write a TEMPLATE after tokenizer.chat_template in the file.",
        ]
    else:
        lines += [f"# {template.format.name}", f'TEMPLATE """{template.go}"""', ""]
        lines += [f'PARAMETER stop "{_escaped(stop)}"' for stop in template.stops]
        system = system if system is not None else template.system
    lines += [
        f"PARAMETER num_ctx {context_tokens}",
        "PARAMETER repeat_penalty 1.1",
    ]
    if system:
        if _QUOTES in system:
            raise ArtifactError(
                f"the system prompt holds {_QUOTES}, which would end it in the Modelfile",
                "give a {system} without",
            )
        lines += ["", f'SYSTEM """{system}"""']
    return "\n".join(lines) + "\n"


def _fits(one: ChatFormat, render: Render, bos: str, eos: str) -> tuple[str | None] | None:
    """The template's own system prompt, in a tuple; None if the format is another."""

    def same(given: Messages, written: Messages) -> bool:
        return render(given) == _with_tokens(one.write(written), bos, bos, eos)

    if not all(same(sample, sample) for sample in _SAMPLES):
        return None
    if all(same(sample, sample) for sample in _WITHOUT_SYSTEM):
        return (None,)
    before, after = one.system_marks
    system = render([_HELLO]).partition(before)[2].partition(after)[0] if before else ""
    added = {"role": "system", "content": system}
    if all(same(sample, [added, *sample]) for sample in _WITHOUT_SYSTEM):
        return (system,)
    return None


def _with_tokens(text: str, first: str, bos: str, eos: str) -> str:
    return text.replace(_FIRST, first).replace(_BOS, bos).replace(_EOS, eos)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
