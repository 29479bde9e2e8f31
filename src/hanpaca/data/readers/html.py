"""The text of a page of HTML, without its scripts and styles."""

from collections.abc import Iterable, Iterator
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "template", "head"})
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl", "dt",
    "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
    "li", "main", "nav", "ol", "option", "p", "pre", "section", "table", "td", "th", "tr", "ul",
})
# fmt: on
"""Elements whose beginning and end part the text."""


def html_blocks(page: Iterable[str]) -> Iterator[tuple[int, str]]:
    r"""Yield the blocks of text of a page in order, each with the line it begins in.

    >>> list(html_blocks(["<style>p {}</style><p>春眠", "\n不觉晓<p>处处&amp;"]))
    [(1, '春眠 不觉晓'), (2, '处处&')]

    Args:
        page: In pieces.
    """
    parser = _Blocks()
    for piece in page:
        parser.feed(piece)
        yield from parser.taken()
    parser.close()
    parser.end_block()
    yield from parser.taken()


class _Blocks(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[tuple[int, str]] = []
        self._said: list[str] = []
        self._line = 1
        self._silent = ""
        """The element that is being passed over."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":  # a head need not be closed
            self._silent = ""
        if tag in _BLOCKS:
            self.end_block()
        if not self._silent and tag in _SILENT:
            self._silent = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent = ""
        if tag in _BLOCKS:
            self.end_block()

    def handle_data(self, data: str) -> None:
        if self._silent or not (self._said or data.strip()):
            return
        if not self._said:
            self._line = self.getpos()[0]
        self._said.append(data)

    def end_block(self) -> None:
        """Keep what was said since the last block."""
        if text := " ".join("".join(self._said).split()):
            self._blocks.append((self._line, text))
        self._said.clear()

    def taken(self) -> list[tuple[int, str]]:
        """The blocks that have ended since this was last asked."""
        ended, self._blocks = self._blocks, []
        return ended
