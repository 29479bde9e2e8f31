"""How a chat template begins a user's turn, and what ends it."""

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hanpaca.errors import DataError

_MARK = "\ue000"
"""In place of what the user says; a private character, which no template has."""


def user_turn(template: str) -> tuple[str, str]:
    r"""What stands before a user's turn, and the first line of what follows it.

    >>> from hanpaca.data.named_templates import CHATML
    >>> user_turn(CHATML)
    ('<|im_start|>user\n', '<|im_end|>')

    Args:
        template: In Jinja. Its token for the beginning is left out, as servers add it.

    Raises:
        DataError: It cannot be written with, or nothing follows the user's turn.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    turn = {
        "messages": [{"role": "user", "content": _MARK}],
        "bos_token": "",
        "eos_token": "",
    }
    try:
        written = environment.from_string(template)
        # Some end a turn with a sign of its own, others only begin the answer's.
        texts = [written.render(add_generation_prompt=begins, **turn) for begins in (False, True)]
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        raise DataError(f"the chat template cannot be written with: {error}") from error
    for text in texts:
        before, mark, after = text.partition(_MARK)
        if mark and (lines := after.strip().splitlines()):
            return before, lines[0].strip()
    raise DataError("the chat template has no end of a user's turn")
