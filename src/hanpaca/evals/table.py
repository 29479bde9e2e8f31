"""The result table as plain text cells, for the terminal and the report."""

from hanpaca.evals.results import BitsPerCharacter, RunResult

HEADER = (
    "model",
    "tokens/Han char",
    "zh bits/char",
    "en bits/char",
    "zh chars/s",
    "tokens/s",
    "MB",
    "held-out answers",
)
FILE_HEADER = ("file", "MB", "zh bits/char", "against the first", "en bits/char", "zh chars/s")


def result_rows(result: RunResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a model; what was not measured is a dash."""
    rows: list[tuple[str, ...]] = [
        (
            model.name,
            f"{model.tokens_per_han_character:.3f}",
            _bits(model.zh),
            _bits(model.en),
            _number(model.characters_per_second),
            _number(model.tokens_per_second),
            f"{model.file_bytes / 1e6:.0f}",
            f"{model.heldout.passed}/{model.heldout.num_answers}" if model.heldout else "–",
        )
        for model in result.models
    ]
    return HEADER, rows


def file_rows(result: RunResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row a file of the final model: what its smaller files cost."""
    files = [model for model in result.models if model.file_type]
    first = files[0].zh if files else None
    rows: list[tuple[str, ...]] = [
        (
            (model.file_type or "").upper(),
            f"{model.file_bytes / 1e6:.0f}",
            _bits(model.zh),
            f"{100 * (model.zh.value / first.value - 1):+.1f} %" if model.zh and first else "–",
            _bits(model.en),
            _number(model.characters_per_second),
        )
        for model in files
    ]
    return FILE_HEADER, rows


def _bits(measured: BitsPerCharacter | None) -> str:
    return f"{measured.value:.3f}" if measured else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
