"""Results of the first schema, which had fields for one pair of languages, as those of the second.

The names of its fields stand here and nowhere else.
"""

from typing import Any

_NEW, _OLD = "zh", "en"
_BITS = "bits per character"
_NUMBERS = {
    "tokens_per_han_character": "tokens per character",
    "characters_per_second": "characters per second",
    "tokens_per_second": "tokens per second",
}


def second_schema(tree: dict[str, Any]) -> dict[str, Any]:
    """Turn the JSON of the first schema into that of the second.

    Raises:
        KeyError: A field is missing.
        TypeError, AttributeError: A field is of another type.
    """
    return {
        **tree,
        "languages": [_NEW, _OLD],
        "models": [_model(model) for model in tree["models"]],
        "goals": [_goal(goal) for goal in tree.get("goals", ())],
        "heldout_examples": [
            {**one, "verdict": _verdict(one["verdict"])} for one in tree.get("heldout_examples", ())
        ],
        "schema_version": 2,
    }


def _model(old: dict[str, Any]) -> dict[str, Any]:
    new = dict(old)
    first = {
        name: {"value": value}
        for field, name in _NUMBERS.items()
        if (value := new.pop(field, None)) is not None
    }
    measured: dict[str, Any] = {_NEW: first, _OLD: {}}
    for language, numbers in measured.items():
        if bits := new.pop(language, None):
            numbers[_BITS] = bits
    counts = new.get("heldout")
    if counts:
        checks = {name: n for name, n in counts.items() if name not in ("num_answers", "passed")}
        kept = {name: counts[name] for name in ("num_answers", "passed")}
        new["heldout"] = {**kept, "checks": checks}
    return {**new, "measured": measured}


def _goal(old: dict[str, Any]) -> dict[str, Any]:
    for change in ("fall", "rise"):
        if old["name"].endswith(f" {change} by"):
            return {**old, "name": old["name"].removesuffix(f" {change} by"), "change": change}
    return old


_FORM = (
    *("is_sentence", "length_fits", "no_loop", "no_chat"),
    *("no_english_line", "readable", "more_than_the_word"),
)


def _verdict(old: dict[str, Any]) -> dict[str, Any]:
    style = all(old[name] for name in _FORM)
    passed = old["stopped"] and old["in_chinese"] and style
    return {"passed": passed, "checks": {**old, "dictionary_style": style}}
