"""Say what a tokenizer extension gained and what it broke, whoever made it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from hanpaca.files import whole
from hanpaca.report.shown import Table, notebook_table, plain_table
from hanpaca.report.tokenizer_page import (
    CORPUS_HEADER,
    LENGTH_HEADER,
    SUMMARY_HEADER,
    audit_page,
    corpus_rows,
    length_cells,
    summary_rows,
)
from hanpaca.report.wording import ENGLISH, checked_language
from hanpaca.tokenizer.audits.audit import Audit, audit_tokenizers
from hanpaca.tokenizer.tokenizer import Source, name_of, vocabulary_of


@dataclass(frozen=True)
class NamedAudit(Audit):
    """An audit with the names of the two; in a notebook it shows as its tables."""

    base: str = ""
    """What the first tokenizer is called."""
    extended: str = ""
    """The same of the second."""

    def write_page(self, path: Path | str, *, lang: str = ENGLISH) -> None:
        """Write the page in `lang`; a file of this name is replaced.

        Raises:
            RecipeError: No page is written in `lang`.
            ArtifactError: A folder has this name.
            ResourceError: It cannot be written there.
        """
        lang = checked_language(lang)
        with whole(Path(path), replace=True) as partial:
            page = audit_page(self, base=self.base, extended=self.extended, lang=lang)
            partial.write_text(page, encoding="utf-8")

    def _tables(self) -> list[Table]:
        tables: list[Table] = [(SUMMARY_HEADER, summary_rows(self))]
        if self.corpora:
            tables.append((CORPUS_HEADER, corpus_rows(self)))
            tables.append((LENGTH_HEADER, length_cells(self)))
        return tables

    def __str__(self) -> str:
        return "\n\n".join(map(plain_table, self._tables()))

    def _repr_html_(self) -> str:
        return notebook_table(self._tables(), lead=f"{self.base} → {self.extended}")


def audit(
    base: Source,
    extended: Source,
    *,
    texts: Mapping[str, Iterable[str]] | None = None,
    protected: Mapping[str, Iterable[str]] | None = None,
    scripts: Sequence[str] = (),
) -> NamedAudit:
    """Compare two tokenizers: dead, killed and junk pieces, changed text, tokens per character.

    >>> found = audit(BASE, BASE, texts={"zh": ["白日依山尽"]}, protected={"en": ["a dog"]})
    >>> len(found.dead_pieces), found.num_changed_protected
    (0, 0)

    Args:
        base: The first tokenizer, open or a path.
        extended: The second, best an extension of the first.
        texts: Lines of the target language by a name, read once; best not those learned from.
        protected: Lines whose tokens should not change, such as English and code.
        scripts: Unicode script names of the target; none to go by what was added or by the texts.

    Raises:
        DataError: There are texts, but without target characters.
        RecipeError: A script name is wrong.
        ArtifactError: A tokenizer cannot be read.
        ResourceError: The packages that read it are not installed.
    """
    found = audit_tokenizers(
        vocabulary_of(base),
        vocabulary_of(extended),
        texts=texts or {},
        protected=protected or {},
        scripts=scripts,
    )
    values = {field.name: getattr(found, field.name) for field in fields(Audit)}
    return NamedAudit(**values, base=name_of(base), extended=name_of(extended))
