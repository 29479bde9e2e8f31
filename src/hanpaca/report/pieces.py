"""How pieces of text are shown to people."""


def visible(text: str) -> str:
    r"""Write a piece so that its spaces and control characters show.

    >>> visible(" the\n")
    '▁the\\n'
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown.replace(" ", "▁")
