"""A model card: README.md as the hub reads it, with the numbers of a run where there is one.

Format: https://huggingface.co/docs/hub/model-cards
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader

from hanpaca.evals.results import BITS, RunResult
from hanpaca.evals.tasks.languages import language_name
from hanpaca.report.run_page import goal_sentence
from hanpaca.report.table import result_rows, task_rows
from hanpaca.report.wording import ENGLISH, Word, words_of

_HOW = (
    "Bits per character compare models with different tokenizers; lower is better. Brackets are "
    "95 % bootstrap intervals over the held-out texts: what other texts could change, not what "
    "another training would."
)
_UNCHECKED = (
    "Beside the numbers on this page nothing was measured: not whether what it says is true, nor "
    "whether it is harmless. It was not tuned to refuse."
)
_UNMEASURED = "This folder says nothing of what the model can do: it comes from no evaluated run."


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells."""

    name: str
    license: str | None
    languages: Sequence[str]
    base_models: Sequence[str]
    """Ids on the hub."""
    tags: Sequence[str]
    files: Mapping[str, int]
    """Their bytes."""
    chosen: str
    """The file for whoever does not choose."""
    chat_format: str
    origin: Sequence[tuple[str, str]]
    """What the files can be traced by."""
    results: RunResult | None = None
    data: Sequence[str] = ()
    """What it learned from, a line each."""


def card_text(facts: CardFacts, *, lang: str = ENGLISH) -> str:
    """The file's text: front matter, then, in `lang`, what a person wants to know."""
    word = words_of(lang)
    environment = Environment(
        loader=PackageLoader("hanpaca.report"),
        autoescape=False,  # Markdown
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    front = {
        "license": facts.license,
        "language": list(facts.languages),
        "base_model": list(facts.base_models),
        "library_name": "gguf",
        "pipeline_tag": "text-generation" if facts.results else None,
        "tags": list(dict.fromkeys([*facts.tags, "gguf", "hanpaca"])),
        "model-index": _index(facts),
    }
    known = {key: value for key, value in front.items() if value}
    return environment.get_template("card.md").render(
        front=yaml.safe_dump(known, allow_unicode=True, sort_keys=False),
        name=facts.name,
        tag="-".join(facts.name.lower().split()),
        word=word,
        intro=word(_intro(facts)),
        files=[(name, f"{size / 1e6:,.0f}") for name, size in facts.files.items()],
        told=word(facts.chat_format),
        chosen=facts.chosen,
        tables=list(_tables(facts.results, word)) if facts.results else [],
        goals=_goals(facts.results, word),
        how=word(_HOW),
        limits=[word(limit) for limit in _limits(facts.results)],
        data=facts.data,
        licence=_licence(facts, word),
        origin=[(word(what), value) for what, value in facts.origin],
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""A table, numbers to the right.

    >>> print(markdown(("model", "MB"), [("a|b", "3")]))
    | model | MB |
    |---|---:|
    | a\|b | 3 |
    """
    lines = [header, *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    first, *others = ("| " + " | ".join(line) + " |" for line in escaped)
    return "\n".join([first, "|---|" + "---:|" * (len(header) - 1), *others])


def _intro(facts: CardFacts) -> str:
    if not facts.results:
        return "Files for llama.cpp, written by hanpaca."
    learned = language_name(facts.results.languages[0]) if facts.results.languages else "a language"
    base = facts.base_models[0] if facts.base_models else dict(facts.origin).get("base", "its base")
    return f"{base}, taught {learned} by hanpaca, as files for llama.cpp."


def _index(facts: CardFacts) -> list[dict[str, Any]]:
    """The hub's own form of numbers: of the final model, the bits of each language."""
    if not facts.results:
        return []
    final = facts.results.final
    results = []
    for language in facts.results.languages:
        if found := final.get(language, BITS):
            texts = f", {found.num_texts} documents" if found.num_texts else ""
            name = f"held-out {language_name(language)}{texts}"
            metric = {"type": "bits_per_character", "name": BITS.name, "value": found.value}
            results.append(
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"type": f"heldout-{language}", "name": name},
                    "metrics": [metric],
                }
            )
    return [{"name": facts.name, "results": results}] if results else []


def _tables(results: RunResult, word: Word) -> Iterator[tuple[str, str]]:
    if results.languages:
        header, rows = result_rows(results, intervals=True)
        yield "", markdown([word(cell) for cell in header], rows)
    for task in results.tasks:
        header, rows = task_rows(task, word)
        yield f"{word(task.name)}, {task.how}:", markdown([word(cell) for cell in header], rows)


def _goals(results: RunResult | None, word: Word) -> list[str]:
    goals = results.goals if results else ()
    return [
        f"{word('met' if goal.met else 'missed')}: {word(goal_sentence(goal))}" for goal in goals
    ]


def _limits(results: RunResult | None) -> list[str]:
    return [*results.notes, _UNCHECKED] if results else [_UNMEASURED]


def _licence(facts: CardFacts, word: Word) -> str:
    unknown = word("Not known: neither file nor base says it.")
    known = f"`{facts.license}`." if facts.license else unknown
    others = word("The base model's licence and those of the data hold beside it.")
    return f"{known} {others}"
