"""A page on which people compare answers without knowing whose they are."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from jinja2 import Environment, PackageLoader

from hanpaca.report.wording import ENGLISH, words_of

_WORDS = {
    "lead": "Which answer serves the user better? The order is drawn, the names are hidden.",
    "keys": "Keys: ← the left is better, → the right is better, = or ↓ equal, Backspace back.",
    "left": "left is better",
    "right": "right is better",
    "tie": "equal",
    "back": "back",
    "note": "note (free)",
    "reviewer": "your name or initials",
    "export": "save the judgements as a file",
    "user": "user",
    "reference": "what a good answer says",
    "done": "All is judged. Save the file and send it back.",
}


@dataclass(frozen=True)
class ReviewPair:
    """Two answers to one prompt, as they stand on the page."""

    name: str
    """Of the prompt."""
    turns: tuple[str, ...]
    left: tuple[str, ...]
    right: tuple[str, ...]
    notes: str


def review_page(
    title: str, pairs: Sequence[ReviewPair], *, review: str, lang: str = ENGLISH
) -> str:
    """The page: one file, which keeps what was judged in the browser and saves it as JSON.

    Args:
        title: Of the page.
        pairs: In the order in which they are shown.
        review: Says which answers these are; it stands in what is saved.
        lang: Of the words around the answers.
    """
    word = words_of(lang)
    environment = Environment(
        loader=PackageLoader("hanpaca.report"), autoescape=True, trim_blocks=True
    )
    # In a script no text may end it: JSON allows the sign to be written as a number.
    data = json.dumps({"review": review, "pairs": [asdict(one) for one in pairs]})
    return environment.get_template("review.html").render(
        title=word(title),
        lang=lang,
        word={name: word(text) for name, text in _WORDS.items()},
        data=data.replace("<", "\\u003c"),
    )
