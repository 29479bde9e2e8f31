"""`hanpaca tokenizer advise`: whether to extend, and by how much."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanpaca.cli.display import print_table
from hanpaca.cli.tools import BaseFolder, Encoding, TextField, Texts, read_texts
from hanpaca.cli.whole import written_whole
from hanpaca.errors import RecipeError

if TYPE_CHECKING:
    from hanpaca.tokenizer.advise import Advice, MeasuredSpeeds
    from hanpaca.tokenizer.shape import ModelShape

_HEADER = (
    "pieces",
    "tokens/char",
    "on the script",
    "new parameters",
    "head's share",
    "speed",
    "to train on",
    "break-even",
)
_LEGEND = (
    "speed: predicted characters per second when decoding, the base's being 1; head's share: of "
    "the weights that decoding a token reads; to train on: characters in which nine of ten new "
    "pieces are met a hundred times; break-even: generated characters that save the time of that "
    "training."
)
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid #8885; }
svg { max-width: 44rem; display: block; }
"""
_SVG_STYLE = "text { font: 13px system-ui, sans-serif; } .grid { stroke: #8884; fill: none; }"


def advise(
    base: BaseFolder,
    text: Texts,
    num_pieces: Annotated[int, typer.Option(help="Largest extension to think of.")] = 20_000,
    script: Annotated[list[str] | None, typer.Option(help="Unicode script; repeatable.")] = None,
    num_parameters: Annotated[
        int | None, typer.Option(help="Of the model, if the base folder has no config.json.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Of the model, likewise.")] = None,
    tied: Annotated[bool, typer.Option(help="Embedding and head are one; likewise.")] = False,
    train_speed: Annotated[
        float | None, typer.Option(help="Tokens per second in training, for the break-even.")
    ] = None,
    decode_speed: Annotated[
        float | None, typer.Option(help="Tokens per second in decoding, for the break-even.")
    ] = None,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write the plot here.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write plot and table here.")] = None,
) -> None:
    """Advise whether to extend a vocabulary, and by how many pieces."""
    from hanpaca.tokenizer.advise import advise as weigh
    from hanpaca.tokenizer.curve import measure_curve

    shape = _shape(base, num_parameters, hidden_size, tied=tied)
    speeds = _speeds(train_speed, decode_speed)
    texts = read_texts(text, encoding=encoding, text_field=text_field)
    curve = measure_curve(base, texts, max_pieces=num_pieces, scripts=tuple(script or ["Han"]))
    advice = weigh(curve, shape, speeds=speeds)
    for path, content in ((svg, _chart), (html, _page)):
        if path:
            with written_whole(path, replace=True) as partial:
                partial.write_text(content(advice), encoding="utf-8")
    if as_json:
        print(json.dumps(asdict(advice), ensure_ascii=False, indent=2))
        return
    print_table(_HEADER, _rows(advice))
    print(f"{_LEGEND}\n\n{advice.sentence}")


def _shape(
    base: Path, num_parameters: int | None, hidden_size: int | None, *, tied: bool
) -> "ModelShape":
    from hanpaca.tokenizer.reading import open_tokenizer
    from hanpaca.tokenizer.shape import read_shape, shape_of_sizes

    if num_parameters is None and hidden_size is None:
        return read_shape(base)
    if num_parameters is None or hidden_size is None:
        raise RecipeError("give --num-parameters and --hidden-size together")
    num_rows = len(open_tokenizer(base).ids)
    return shape_of_sizes(num_parameters, hidden_size, num_rows=num_rows, is_tied=tied)


def _speeds(training: float | None, decoding: float | None) -> "MeasuredSpeeds | None":
    from hanpaca.tokenizer.advise import MeasuredSpeeds

    if training is None and decoding is None:
        return None
    if training is None or decoding is None or min(training, decoding) <= 0:
        raise RecipeError("give --train-speed and --decode-speed together, both above 0")
    return MeasuredSpeeds(training, decoding)


def _rows(advice: "Advice") -> list[Sequence[str]]:
    from hanpaca.tokenizer.advise import short_number

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


def _chart(advice: "Advice") -> str:
    from hanpaca.evals.svg import line_chart

    tokens = [(o.point.num_pieces, o.point.text_tokens_per_character) for o in advice.options]
    speed = [(o.point.num_pieces, o.speed) for o in advice.options]
    chart = line_chart(
        "What more pieces bring",
        [("tokens a character", tokens), ("speed (base = 1)", speed)],
        x_name="new pieces",
        y_name="",
    )
    return chart.replace("<title>", f"<style>{_SVG_STYLE}</style><title>", 1)


def _page(advice: "Advice") -> str:
    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row)

    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in _rows(advice))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Vocabulary extension: advice</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(advice.sentence.partition(':')[0])}</h1><p>{escape(advice.sentence)}</p>"
        f"{_chart(advice)}<table><tr>{cells('th', _HEADER)}</tr>{rows}</table>"
        f"<p>{escape(_LEGEND)} Measured on {advice.num_held_out_characters:,} characters that the "
        "pieces were not learned from.</p></body></html>\n"
    )
