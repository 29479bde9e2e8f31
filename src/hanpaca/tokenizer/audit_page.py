"""The audit as one self-contained page: no script, no outside file."""

from collections.abc import Iterable, Sequence
from html import escape
from unicodedata import east_asian_width

from hanpaca.tokenizer.audit import Audit
from hanpaca.tokenizer.corpus_audit import CorpusAudit

_COLOURS = ("#0072b2", "#d55e00")  # Okabe and Ito: colour-blind readers can tell them apart
_BAR, _ROW = 380, 40  # pixels
_LINE_CHARACTERS = 160
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.6 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.25; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #8885; }
td.number { text-align: right; }
code { background: #8882; border-radius: 3px; padding: 0 .25em; margin-right: .25em;
  white-space: pre-wrap; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; max-width: 44rem; display: block; font: 13px system-ui, sans-serif;
  color: inherit; }
svg text { fill: currentColor; }
.bad { color: #c92a2a; font-weight: 600; }
"""


def audit_page(audit: Audit, *, base: str, extended: str) -> str:
    """Write the page; `base` and `extended` are the names to show."""
    title = f"{base} → {extended}"
    sections = [
        f"<h1>Tokenizer audit: {escape(title)}</h1>{_in_short(audit)}",
        _section("Tokens per character", _plot(length_rows(audit))),
        _section("Defects", _table(("what", "found"), summary_rows(audit))),
        _section("Changed lines", _table(CORPUS_HEADER, corpus_rows(audit))),
        *(_section(f"What changed in {c.name}", _changes(c)) for c in audit.corpora if c.changes),
        *(
            _section(f"{what} in {corpus.name}", _lines(lines))
            for corpus in audit.corpora
            for what, lines in (
                ("New cuts", corpus.recut),
                ("Read back otherwise", corpus.misread),
                ("Dependent on the engine", corpus.engine_dependent),
            )
        ),
        _section("Dead new pieces", _pieces(audit.dead_pieces)),
        _section("Killed pieces of the base", _pieces(audit.killed_pieces)),
        *(_section(f"Junk: {kind}", _pieces(found)) for kind, found in audit.junk.items()),
        _section("Pieces no merge list can order", _pieces(audit.ties_after.unorderable)),
        _section("New pieces not in the texts", _pieces(audit.unused_pieces)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: tokenizer audit</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(sections)}</body></html>\n"
    )


def summary_rows(audit: Audit) -> list[tuple[str, str]]:
    """What was counted in the pieces themselves, as text cells."""
    return [
        ("entries before", f"{audit.num_pieces_before:,}"),
        ("entries after", f"{audit.num_pieces_after:,}"),
        ("new pieces", f"{audit.num_new_pieces:,}"),
        ("entries of the base with another id", f"{len(audit.moved_entries):,}"),
        ("dead new pieces", f"{len(audit.dead_pieces):,}"),
        ("killed pieces of the base", f"{len(audit.killed_pieces):,}"),
        ("new pieces not in the texts", f"{len(audit.unused_pieces):,}"),
        *((f"junk: {kind}", f"{len(found):,}") for kind, found in audit.junk.items()),
        ("pieces of equal score before", f"{audit.ties_before.num_tied:,}"),
        ("pieces of equal score after", f"{audit.ties_after.num_tied:,}"),
        ("no merge list can order, before", f"{audit.ties_before.num_unorderable:,}"),
        ("no merge list can order, after", f"{audit.ties_after.num_unorderable:,}"),
    ]


CORPUS_HEADER = (
    "corpus",
    "lines",
    "changed",
    "without target",
    "new cuts",
    "not given back, before",
    "after",
    "engine-dependent",
)


def corpus_rows(audit: Audit) -> list[tuple[str, ...]]:
    """One row a corpus for `CORPUS_HEADER`."""
    return [
        (
            f"{corpus.name}{' (protected)' if corpus.protected else ''}",
            f"{corpus.num_texts:,}",
            f"{corpus.num_changed:,} ({corpus.num_changed / max(corpus.num_texts, 1):.1%})",
            f"{corpus.num_changed_without_target:,}",
            f"{corpus.num_recut:,}",
            f"{corpus.num_lossy_before:,}",
            f"{corpus.num_lossy_after:,}",
            f"{corpus.num_engine_dependent:,}",
        )
        for corpus in audit.corpora
    ]


def length_rows(audit: Audit) -> list[tuple[str, float, float]]:
    """Tokens per character before and after: of whole corpora, and of their runs of each script.

    Scripts with less than a hundredth of a corpus are left out.
    """
    rows = []
    for corpus in audit.corpora:
        size = corpus.num_characters
        if size:
            whole = (corpus.num_tokens_before / size, corpus.num_tokens_after / size)
            rows.append((corpus.name, *whole))
            rows += [
                (f"{corpus.name}: {one.script}", one.before, one.after)
                for one in corpus.scripts
                if one.num_characters >= size / 100
            ]
    return rows


def _in_short(audit: Audit) -> str:
    faults = {
        "dead new pieces": len(audit.dead_pieces),
        "killed pieces of the base": len(audit.killed_pieces),
        "changed protected lines": audit.num_changed_protected,
        "lines with new cuts": audit.num_recut,
        "lines that decode otherwise": audit.num_round_trip_failures,
    }
    found = ", ".join(f"{count:,} {fault}" for fault, count in faults.items() if count)
    if found:
        return f'<p class="bad">{found}.</p>'
    return "<p>No dead piece, no killed piece, no protected line changed, no new cut.</p>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _pieces(pieces: Sequence[str]) -> str:
    return f"<p>{len(pieces):,}: {_codes(pieces)}</p>" if pieces else ""


def _codes(pieces: Iterable[str]) -> str:
    return "".join(f"<code>{escape(piece)}</code>" for piece in pieces)


def _lines(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line[:_LINE_CHARACTERS])}</li>" for line in lines)
    return f"<p>The first {len(lines)}:</p><ul>{items}</ul>" if lines else ""


def _changes(corpus: CorpusAudit) -> str:
    rows = "".join(
        f'<tr><td class="number">{change.count:,}</td><td>{_codes(change.before)}</td>'
        f"<td>{_codes(change.after)}</td><td>{escape(change.text)}</td></tr>"
        for change in corpus.changes
    )
    head = "<tr><th>times</th><th>before</th><th>after</th><th>such as</th></tr>"
    return f"<table>{head}{rows}</table>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><td>{escape(row[0])}</td>"
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _plot(rows: Sequence[tuple[str, float, float]]) -> str:
    """Two bars a row, from zero, beside a column as wide as the longest label."""
    highest = max((max(before, after) for _, before, after in rows), default=0.0) or 1.0
    left = 16 + max((_width(label) for label, _, _ in rows), default=0)
    parts = [
        f'<text x="{left + 90 * i}" y="14" style="fill:{colour}">■ {name}</text>'
        for i, (colour, name) in enumerate(zip(_COLOURS, ("before", "after"), strict=True))
    ]
    for number, (label, *values) in enumerate(rows):
        y = 24 + number * _ROW
        parts.append(f'<text x="{left - 8}" y="{y + 20}" text-anchor="end">{escape(label)}</text>')
        for i, value in enumerate(values):
            width, top = value / highest * _BAR, y + 15 * i
            parts.append(
                f'<rect x="{left}" y="{top}" width="{width:.1f}" height="13" '
                f'fill="{_COLOURS[i]}"/><text x="{left + width + 6:.1f}" y="{top + 11}">'
                f"{value:.3f}</text>"
            )
    height = 30 + len(rows) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + _BAR + 60} {height}" '
        f'role="img"><title>Tokens per character</title>{"".join(parts)}</svg>'
    )


def _width(label: str) -> int:
    """Pixels that a label may take at most in the page's 13-pixel letters."""
    return sum(13 if east_asian_width(letter) in "WF" else 7 for letter in label)
