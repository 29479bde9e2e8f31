"""The tokens around a text, as `tokenizer.json` says it."""

from collections.abc import Callable
from typing import Any


def template_processing(
    before: str | None, after: str | None, id_of: Callable[[str], int]
) -> dict[str, Any] | None:
    """What puts a token before and after each text; a second text is handled like the first.

    Args:
        before: The token, such as BOS; None for none.
        after: The token, such as EOS; None for none.
        id_of: Gives the id of either.

    Returns:
        A `TemplateProcessing` of the tokenizers library; None where nothing is put around.
    """
    used = [token for token in (before, after) if token]
    if not used:
        return None

    def parts(text: str, kind: int) -> list[dict[str, Any]]:
        first, last = (
            [{"SpecialToken": {"id": token, "type_id": kind}}] if token else []
            for token in (before, after)
        )
        return [*first, {"Sequence": {"id": text, "type_id": kind}}, *last]

    return {
        "type": "TemplateProcessing",
        "single": parts("A", 0),
        "pair": parts("A", 0) + parts("B", 1),
        "special_tokens": {
            token: {"id": token, "ids": [id_of(token)], "tokens": [token]} for token in used
        },
    }
