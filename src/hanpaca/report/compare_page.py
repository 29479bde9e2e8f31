"""What smaller files cost, as a chart and a page."""

from collections.abc import Sequence
from itertools import takewhile

from hanpaca.evals.divergence import Divergence
from hanpaca.report.charts import can_draw, scatter_chart
from hanpaca.report.page import Line, PageSection, chart, render, table
from hanpaca.report.wording import ENGLISH, words_of

COMPARE_HEADER = ("file", "MB", "KL, nats/token", "95 %", "same first", "bits/char")
_TITLE = "Divergence from the reference by size"


def compare_page(found: Sequence[Divergence], *, lang: str = ENGLISH) -> str:
    """Chart and table of models, of which the first is the reference, in `lang`."""
    word = words_of(lang)
    name, tokens = found[0].model, f"{found[0].num_tokens:,}"
    drawn = can_draw() and any(one.kl > 0 for one in found)
    legend = (
        f"KL: how far its predictions are from those of {name}, with the 95 % bootstrap interval "
        "over blocks of text; same first: share of tokens with the same likeliest next token. "
        f"Measured on {tokens} tokens. Weights alone are compared, in float32; llama.cpp rounds "
        "activations too."
    )
    numbers = range(1, len(COMPARE_HEADER))
    listed = table([word(cell) for cell in COMPARE_HEADER], compare_rows(found), numbers=numbers)
    sections = [
        PageSection(word(_TITLE), chart(divergence_chart(found, lang=lang) if drawn else None)),
        PageSection(word("Results"), [listed]),
    ]
    title = word(f"Smaller files of {name}")
    return render(title, sections, lead=[Line(word(legend))], lang=lang)


def compare_rows(found: Sequence[Divergence]) -> list[tuple[str, ...]]:
    """One row a model for `COMPARE_HEADER`."""
    return [
        (
            one.model,
            f"{one.num_bytes / 1e6:.1f}",
            f"{one.kl:.5f}",
            "{:.5f}–{:.5f}".format(*one.kl_interval) if one.kl_interval else "–",
            f"{one.agreement:.2%}",
            f"{one.bits_per_character:.4f}",
        )
        for one in found
    ]


def divergence_chart(
    found: Sequence[Divergence], *, lang: str = ENGLISH, alone: bool = False
) -> str:
    """Size against divergence, as SVG; models equal to the reference are left out.

    Raises:
        DataError: No model differs from the reference.
        ResourceError: matplotlib is missing.
    """
    word = words_of(lang)
    names = short_names([one.model for one in found])
    points = [
        (name, one.num_bytes / 1e6, one.kl)
        for name, one in zip(names, found, strict=True)
        if one.kl > 0
    ]
    return scatter_chart(
        word(_TITLE),
        points,
        x_name="MB",
        y_name=word("KL divergence, nats a token"),
        alone=alone,
    )


def short_names(names: Sequence[str]) -> list[str]:
    """What tells files apart: their names without what all begin and end with.

    >>> short_names(["m.f16.gguf", "m.q4_k_m.gguf", "m.q4_0.gguf"])
    ['f16', 'q4_k_m', 'q4_0']
    """
    parts = [name.split(".") for name in names]
    first, last = _shared(parts), _shared([part[::-1] for part in parts])
    short = [".".join(part[first : len(part) - last]) for part in parts]
    return short if all(short) else list(names)


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many parts all begin with."""
    return sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False)))
