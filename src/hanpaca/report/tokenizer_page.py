"""The audit of a tokenizer as one self-contained page: no script, no outside file."""

from collections.abc import Iterator, Sequence

from hanpaca.report.charts import can_draw, pair_chart
from hanpaca.report.page import Block, Line, PageSection, chart, codes, items, render, table, text
from hanpaca.report.pieces import visible
from hanpaca.report.wording import ENGLISH, Word, words_of
from hanpaca.tokenizer.audits.audit import Audit
from hanpaca.tokenizer.audits.corpus_audit import CorpusAudit

_LINE_CHARACTERS = 160
Titled = tuple[str, list[Block]]
"""An English heading, and what stands under it."""


def audit_page(audit: Audit, *, base: str, extended: str, lang: str = ENGLISH) -> str:
    """Write the page in `lang`; `base` and `extended` are the names to show."""
    word = words_of(lang)
    found = (*_tables(audit, word), *_of_corpora(audit, word), *_listed(audit))
    sections = [PageSection(word(title), blocks) for title, blocks in found]
    title = word(f"Tokenizer audit: {base} → {extended}")
    return render(title, sections, lead=[_in_short(audit, word)], lang=lang)


def _tables(audit: Audit, word: Word) -> Iterator[Titled]:
    yield "Tokens per character", _lengths(audit, word)
    yield "Defects", [_table(SUMMARY_HEADER, summary_rows(audit), word)]
    yield "Changed lines", [_table(CORPUS_HEADER, corpus_rows(audit), word)]


def _of_corpora(audit: Audit, word: Word) -> Iterator[Titled]:
    for corpus in audit.corpora:
        if corpus.changes:
            yield f"What changed in {corpus.name}", _changes(corpus, word)
    for corpus in audit.corpora:
        yield f"New cuts in {corpus.name}", _lines(corpus.recut, word)
        yield f"Read back otherwise in {corpus.name}", _lines(corpus.misread, word)
        yield f"Dependent on the engine in {corpus.name}", _lines(corpus.engine_dependent, word)


def _listed(audit: Audit) -> Iterator[Titled]:
    yield "Dead new pieces", _pieces(audit.dead_pieces)
    yield "Killed pieces of the base", _pieces(audit.killed_pieces)
    for kind, found in audit.junk.items():
        yield f"Junk: {kind}", _pieces(found)
    yield "Pieces no merge list can order", _pieces(audit.ties_after.unorderable)
    yield "New pieces not in the texts", _pieces(audit.unused_pieces)


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


SUMMARY_HEADER = ("what", "found")
LENGTH_HEADER = ("text", "before", "after")
CORPUS_HEADER = (
    "corpus",
    "lines",
    "changed",
    "without target",
    "new cuts",
    "not given back, before",
    "not given back, after",
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


def length_cells(audit: Audit) -> list[tuple[str, ...]]:
    """The same as text cells, for `LENGTH_HEADER`."""
    return [(name, f"{before:.4f}", f"{after:.4f}") for name, before, after in length_rows(audit)]


def _in_short(audit: Audit, word: Word) -> Line:
    faults = {
        "dead new pieces": len(audit.dead_pieces),
        "killed pieces of the base": len(audit.killed_pieces),
        "changed protected lines": audit.num_changed_protected,
        "lines with new cuts": audit.num_recut,
        "lines that decode otherwise": audit.num_round_trip_failures,
    }
    found = "; ".join(f"{word(fault)}: {count:,}" for fault, count in faults.items() if count)
    if found:
        return Line(found, bad=True)
    return Line(word("No dead piece, no killed piece, no protected line changed, no new cut."))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], word: Word) -> Block:
    """A table whose first column has names, and the others numbers."""
    worded = [(word(row[0]), *row[1:]) for row in rows]
    return table([word(cell) for cell in header], worded, numbers=range(1, len(header)))


def _pieces(pieces: Sequence[str]) -> list[Block]:
    return [codes(f"{len(pieces):,}:", _seen(pieces))] if pieces else []


def _seen(pieces: Sequence[str]) -> tuple[str, ...]:
    """Pieces so that their spaces and control characters are seen."""
    return tuple(map(visible, pieces))


def _lines(lines: Sequence[str], word: Word) -> list[Block]:
    shown = [("", line[:_LINE_CHARACTERS]) for line in lines]
    return [text(word(f"The first {len(lines)}:")), items(shown)] if lines else []


def _changes(corpus: CorpusAudit, word: Word) -> list[Block]:
    rows = [
        (f"{change.count:,}", _seen(change.before), _seen(change.after), change.text)
        for change in corpus.changes
    ]
    header = ("times", "before", "after", "such as")
    return [table([word(cell) for cell in header], rows, numbers=(0,))]


def _lengths(audit: Audit, word: Word) -> list[Block]:
    rows = length_rows(audit)
    if not rows:
        return []
    listed = _table(LENGTH_HEADER, length_cells(audit), word)
    if not can_draw():
        return [listed]
    title, names = word("Tokens per character"), (word("before"), word("after"))
    return [*chart(pair_chart(title, rows, names, x_name=title)), listed]
