"""Run as a program: write a few conversations by chat templates, within limits.

It stands by itself, so that it starts in a tenth of a second. Standard input is a list of templates
in JSON, the argument the status where one of them does not end.
"""

import contextlib
import json
import resource
import sys
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_SECONDS = 2
"""On a core; templates that are used take thousandths."""
_BYTES = 1 << 30
_QUESTION, _ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
_SYSTEM = {"role": "system", "content": "c"}
_TOOL = {"type": "function", "function": {"name": "d", "description": "", "parameters": {}}}
_CONVERSATIONS: list[dict[str, Any]] = [
    {"messages": [_QUESTION]},
    {"messages": [_SYSTEM, _QUESTION, _ANSWER, _QUESTION]},
    {"messages": [_QUESTION], "tools": [_TOOL]},
]


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


class _Generation(Extension):
    """The block that marks an answer, as transformers has it."""

    tags = {"generation"}  # noqa: RUF012  # as its base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give what is inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str = "") -> None:
    raise ValueError(message)


def main(no_end: int) -> int:
    """Try each template on each conversation; what they refuse or break on is not judged."""
    for kind, most in ((resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_AS, _BYTES)):
        with contextlib.suppress(ValueError, OSError):  # not every system has each
            resource.setrlimit(kind, (most, most))
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda _: "")
    for template in json.load(sys.stdin):
        for conversation in _CONVERSATIONS:
            try:
                environment.from_string(template).render(
                    add_generation_prompt=True, bos_token="", eos_token="", **conversation
                )
            except (MemoryError, OverflowError):  # a range of more than 100,000 is the latter
                return no_end
            except _REFUSALS:
                continue
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
