"""The advice on extending a vocabulary, as a page."""

from collections.abc import Sequence

from hanpaca.report.charts import can_draw, line_chart
from hanpaca.report.page import Line, PageSection, chart, render, table, text
from hanpaca.report.wording import ENGLISH, words_of
from hanpaca.tokenizer.advice.weigh import Advice, short_number

ADVICE_HEADER = (
    "pieces",
    "tokens/char",
    "on the script",
    "new parameters",
    "head's share",
    "speed",
    "to train on",
    "break-even",
)
LEGEND = (
    "speed: predicted characters per second when decoding, the base's being 1; head's share: of "
    "the weights that decoding a token reads; to train on: characters in which nine of ten new "
    "pieces are met a hundred times; break-even: generated characters that save the time of that "
    "training."
)
_TITLE = "What more pieces bring"


def advice_page(advice: Advice, *, lang: str = ENGLISH) -> str:
    """Put plot and table on a page in `lang`."""
    word = words_of(lang)
    rows = [[word(cell) for cell in row] for row in advice_rows(advice)]
    drawing = advice_chart(advice, lang=lang) if can_draw() else None
    measured = (
        f"Measured on {advice.num_held_out_characters:,} characters that the pieces were not "
        "learned from."
    )
    sizes = table([word(cell) for cell in ADVICE_HEADER], rows, numbers=range(len(ADVICE_HEADER)))
    sections = [
        PageSection(word(_TITLE), chart(drawing)),
        PageSection(word("Sizes"), [sizes, text(word(LEGEND)), text(word(measured))]),
    ]
    heading = word(advice.sentence.partition(":")[0])
    return render(heading, sections, lead=[Line(word(advice.sentence))], lang=lang)


def advice_rows(advice: Advice) -> list[Sequence[str]]:
    """One row a size for `ADVICE_HEADER`."""
    return [
        (
            f"{option.point.num_pieces:,}",
            f"{option.point.text_tokens_per_character:.3f}",
            f"{option.point.target_tokens_per_character:.3f}",
            f"{option.added_parameters / 1e6:.1f} M, {option.added_share:.1%}",
            f"{option.head_share:.1%}",
            f"{option.speed:.2f}",
            short_number(option.point.training_characters),
            ""
            if option.break_even_characters is None
            else short_number(option.break_even_characters),
        )
        for option in advice.options
    ]


def advice_chart(advice: Advice, *, lang: str = ENGLISH, alone: bool = False) -> str:
    """Tokens a character and speed over the number of new pieces, as SVG.

    Raises:
        ResourceError: matplotlib is missing.
    """
    word = words_of(lang)
    tokens = [(o.point.num_pieces, o.point.text_tokens_per_character) for o in advice.options]
    speed = [(o.point.num_pieces, o.speed) for o in advice.options]
    return line_chart(
        word(_TITLE),
        [(word("tokens a character"), tokens), (word("speed (base = 1)"), speed)],
        x_name=word("new pieces"),
        y_name=word("tokens a character, speed"),
        alone=alone,
    )
