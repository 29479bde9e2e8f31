"""One self-contained page: what was gained, what was forgotten, and what the answers look like."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from hanpaca.evals.results import BitsPerCharacter, ModelResult, RunResult
from hanpaca.evals.svg import Bar, bar_chart, line_chart
from hanpaca.evals.table import file_rows, result_rows

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.6 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.25; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #8885; }
td.number { text-align: right; }
svg { width: 100%; height: auto; max-width: 44rem; display: block; font: 13px system-ui, sans-serif;
  color: inherit; }
svg text { fill: currentColor; }
svg .grid { stroke: #8884; fill: none; }
.met { color: #087f5b; } .missed { color: #c92a2a; font-weight: 600; }
.scroll { overflow-x: auto; }
@media print { body { max-width: none; } h2 { break-after: avoid; } }
"""


def write_report(result: RunResult, path: Path) -> None:
    """Write `report.html`: it needs no other file, no network and no script."""
    sections = [
        _heading(result),
        _section("Goals", _goals(result)),
        _section("Results", _table(*result_rows(result), numbers=True)),
        _section("The final model's files for llama.cpp", _files(result)),
        _section("Read with care", "".join(f"<p>{escape(note)}</p>" for note in result.notes)),
        _section("Held-out Chinese, bits per character (lower is better)", _bits(result, "zh")),
        _section("English, bits per character (lower is better)", _bits(result, "en")),
        _section(
            "Chinese characters per second (higher is better)",
            _bars(result, [(m.name, m.characters_per_second, None) for m in result.models], 1),
        ),
        _section(
            "Size in MB",
            _bars(result, [(m.name, m.file_bytes / 1e6, None) for m in result.models], 0),
        ),
        _section("While training", _curves(result)),
        _section("The six fixed prompts", _samples(result)),
        _section("Held-out questions", _examples(result)),
        _section("How it was measured", _how(result)),
        _section(
            "Provenance",
            _table(("what", "value"), [(one.name, one.value) for one in result.provenance]),
        ),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(result.title)}: report</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _heading(result: RunResult) -> str:
    met = sum(goal.met for goal in result.goals)
    return (
        f"<h1>{escape(result.title)}</h1><p>{met} of {len(result.goals)} goals met. Bits "
        "per character compare models with different tokenizers; whiskers are 95 % "
        "bootstrap intervals over the held-out texts.</p>"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _goals(result: RunResult) -> str:
    items = "".join(
        f'<li class="{"met" if goal.met else "missed"}">{"met" if goal.met else "missed"}: '
        f"{escape(goal.name)} {goal.measured:.2f}{escape(goal.unit)} "
        f"({goal.comparison} {goal.bound:g}{escape(goal.unit)})</li>"
        for goal in result.goals
    )
    return f"<ul>{items}</ul>" if items else ""


def _files(result: RunResult) -> str:
    header, rows = file_rows(result)
    return _table(header, rows, numbers=True) if len(rows) > 1 else ""


def _bits(result: RunResult, language: str) -> str:
    bars: list[Bar] = []
    for model in result.models:
        measured: BitsPerCharacter | None = getattr(model, language)
        if measured:
            bars.append((model.name, measured.value, (measured.low, measured.high)))
    return _bars(result, bars, 3)


def _bars(
    result: RunResult,
    bars: Iterable[tuple[str, float | None, tuple[float, float] | None]],
    digits: int,
) -> str:
    known: list[Bar] = [
        (name, value, interval) for name, value, interval in bars if value is not None
    ]
    return bar_chart(result.title, known, digits=digits) if known else ""


def _curves(result: RunResult) -> str:
    drawn = [(curve.name, curve.points) for curve in result.curves if len(curve.points) > 1]
    if not drawn:
        return ""
    chart = line_chart(
        "held-out bits per character",
        drawn,
        x_name="seconds of training",
        y_name="bits per character of held-out text",
    )
    return f"{chart}<p>Each curve starts from its own model and counts its own seconds.</p>"


def _samples(result: RunResult) -> str:
    shown = [model for model in result.models if model.samples]
    if not shown:
        return ""
    prompts = [sample.prompt for sample in shown[0].samples]
    rows = [
        (prompt, *(model.samples[number].answer for model in shown))
        for number, prompt in enumerate(prompts)
    ]
    return _table(("prompt", *(model.name for model in shown)), rows)


def _examples(result: RunResult) -> str:
    rows = [
        (one.question, one.answer, one.reference, "yes" if one.verdict.passed else "no")
        for one in result.heldout_examples
    ]
    header = ("question", "answer", "the dictionary", "dictionary style")
    return _table(header, rows) if rows else ""


def _how(result: RunResult) -> str:
    def one(model: ModelResult) -> tuple[str, str]:
        return model.name, model.how

    speed = (
        "<p>Characters per second: tokens per second written by llama.cpp while it continues "
        "held-out Chinese, divided by the tokens a character of that text takes. "
        "It does not depend on what the model happened to write.</p>"
    )
    return _table(("model", "how"), [one(model) for model in result.models]) + speed


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    number = ' class="number"'
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{number if numbers and column else ''}>{escape(cell)}</td>"
            for column, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'
