"""What happens on the page: each function takes what a person did and gives what is shown next."""

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from hanpaca.app.unwaiting import unwaiting
from hanpaca.app.words import WORDS, Language, language
from hanpaca.errors import HanpacaError
from hanpaca.steps.web import Half, Models, Sampling, Talk

_SECONDS_BETWEEN = 0.06
"""Of two pictures of a growing answer: more would only keep the browser busy."""
_LONG = 2_000
"""Characters of an answer that takes twice as long to draw, and so is drawn half as often."""
_LEAST_SECONDS = 0.2
"""Of writing, as the page sees it; a rate of less says nothing."""
_WARNS = "⚠️ "
_QUOTED = 100
"""Characters of a source that are shown."""
_SIGNS = re.compile(r"[\\`*_{}\[\]()#+\-.!|<>~$&]")
StepT = TypeVar("StepT")
Shown = tuple[Any, ...]
"""New values of components, in the order in which the page names them."""


@dataclass
class Tab:
    """What one tab of a browser has to itself."""

    talk: Talk
    language: Language

    def word(self, key: str) -> str:
        """In the language of the browser."""
        return WORDS[self.language][key]


class Events:
    """What can happen, bound to the models."""

    def __init__(self, models: Models, first: Sequence[str]) -> None:
        """Args: `models`; `first`, the names of the one or two that a new tab begins with."""
        self.models = models
        self.first = first

    def start(self, request: gr.Request) -> Tab:
        """A tab was opened."""
        return self._tab(None, request.headers.get("accept-language"))

    def pick(self, tab: Tab | None, first: str, second: str) -> Shown:
        """Other models were picked; gives the tab, the second column, and the conversation."""
        tab = self._tab(tab)
        tab.talk.pick([first, second] if second else [first])
        return tab, gr.Column(visible=bool(second)), *shown(tab)

    def ask(self, tab: Tab | None, question: str, *settings: Any) -> Iterator[Shown]:
        """A question was sent."""
        tab = self._tab(tab)
        if not question.strip():
            yield tab, gr.skip(), *shown(tab)
            return
        yield from self._answered(tab, lambda talk: talk.ask(question.strip()), settings, "")

    def retry(self, tab: Tab | None, *settings: Any) -> Iterator[Shown]:
        """The last question is to be asked again."""
        yield from self._answered(self._tab(tab), Talk.retry, settings)

    def edit(
        self, tab: Tab | None, half: int, index: int, question: str, settings: Sequence[Any]
    ) -> Iterator[Shown]:
        """A question was changed: the message `index` of one half."""
        tab = self._tab(tab)
        num_back = len(tab.talk.halves[half].shown) // 2 - index // 2
        text = question.strip()
        if not text or num_back < 1:
            yield tab, gr.skip(), *shown(tab)
            return
        yield from self._answered(tab, lambda talk: talk.edit(num_back, text), settings)

    def undo(self, tab: Tab | None) -> Shown:
        """The last question is taken back, to be written anew."""
        tab = self._tab(tab)
        return tab, tab.talk.undo() or gr.skip(), *shown(tab)

    def clear(self, tab: Tab | None) -> Shown:
        """A new conversation begins."""
        tab = self._tab(tab)
        tab.talk.clear()
        return tab, gr.skip(), *shown(tab)

    def rest(self, tab: Tab | None) -> Shown:
        """Nothing is being written any more, however that came."""
        tab = self._tab(tab)
        with tab.talk.at_rest():
            return tab, _idle(), *shown(tab)

    def save(self, tab: Tab | None) -> str:
        """The conversation as the text of a file."""
        return self._tab(tab).talk.saved()

    def load(self, tab: Tab | None, file: str) -> Shown:
        """A saved conversation; gives the tab, its system prompt, and the conversation."""
        tab = self._tab(tab)
        try:
            system = tab.talk.load(Path(file))
        except HanpacaError as error:
            gr.Warning(worded(error, tab))
            return tab, gr.skip(), *shown(tab)
        return tab, system or "", *shown(tab)

    def _tab(self, tab: Tab | None, accepted: str | None = None) -> Tab:
        """The tab; a new one where the server has forgotten it, or never knew it."""
        return tab or Tab(Talk(self.models, self.first), language(accepted))

    def _answered(
        self,
        tab: Tab,
        ask: Callable[[Talk], Generator[Half, None, None]],
        settings: Sequence[Any],
        box: str | None = None,
    ) -> Iterator[Shown]:
        """An answer as it grows, or a warning why there is none."""
        try:
            tab.talk.set(sampling(settings[1:]), settings[0])
            for pace in paced(unwaiting(ask(tab.talk)), _seconds_between):
                yield tab, _busy(box) if pace == 0 else gr.skip(), *shown(tab)
        except HanpacaError as error:
            gr.Warning(worded(error, tab))
            yield tab, gr.skip(), *shown(tab)


def sampling(values: Sequence[Any]) -> Sampling:
    """From the values of the page, in the order of the fields.

    Raises:
        RecipeError: One is out of its range.
    """
    tokens, temperature, top_k, top_p, min_p, penalty, seed = (value or 0 for value in values)
    return Sampling(int(tokens), temperature, int(top_k), top_p, min_p, penalty, int(seed))


def paced(steps: Iterator[StepT | None], seconds: Callable[[StepT], float]) -> Iterator[int]:
    """Count the first of some steps, one each so many seconds as it says itself, and the last.

    For None, which is no step, there is a -1.
    """
    count, last, left = 0, float("-inf"), False
    for step in steps:
        if step is None:
            yield -1
            continue
        now = time.monotonic()
        left = now - last < seconds(step)
        if not left:
            yield count
            count, last = count + 1, now
    if left:
        yield count


def _seconds_between(half: Half) -> float:
    return _SECONDS_BETWEEN * (1 + half.num_written / _LONG)


def shown(tab: Tab) -> Shown:
    """Both conversations and what is said about their last answers."""
    halves = tab.talk.halves
    pictures = [(_turns(half, tab), status(half, tab)) for half in halves]
    (left, left_status), (right, right_status) = [*pictures, ([], "")][:2]
    return left, right, left_status, right_status


def _turns(half: Half, tab: Tab) -> list[dict[str, str]]:
    turns = half.shown
    if half.fault and turns:
        turns[-1]["content"] = _WARNS + worded(half.fault, tab)
    return turns


def status(half: Half, tab: Tab) -> str:
    """How long the last answer is and how fast it came, and what else is to be said of it."""
    lines = list(half.notes)
    if half.num_written:
        known = half.session.answer is not None or half.seconds >= _LEAST_SECONDS
        rate = half.rate if known else None
        numbers = {"characters": half.num_written, "waited": f"{half.waited:.1f}"}
        written = tab.word("rate" if rate else "short")
        lines.append(written.format(rate=f"{rate or 0:.1f}", **numbers))
        if (answer := half.session.answer) and not answer.stopped:
            lines.append(tab.word("cut"))
    elif half.session.unanswered and not half.fault:
        lines.append(tab.word("waiting"))
    told = " · ".join(lines)
    if not half.sources:
        return told
    shown = [f"{_plain(_named(one))}: {_plain(_beginning(one))}" for one in half.sources]
    return "\n\n".join([told, *shown])


def _named(source: Mapping[str, Any]) -> str:
    """Such as `[1] guide.pdf, page 3`."""
    return "[{number}] {path}, {unit} {place}".format_map(source)


def _beginning(source: Mapping[str, Any]) -> str:
    line = " ".join(str(source["text"]).split())
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "…"


def _plain(text: str) -> str:
    """A text as Markdown shows it: no sign of it means anything."""
    return _SIGNS.sub(r"\\\g<0>", text)


def worded(error: HanpacaError, tab: Tab) -> str:
    """An error as the page calls things."""
    words = WORDS[tab.language]
    return error.worded(lambda name: words.get(name, name), lambda name: f"hanpaca {name}")


def _busy(text: str | None) -> Any:  # noqa: ANN401  # a component of Gradio's
    given = {} if text is None else {"value": text}
    return gr.Textbox(submit_btn=False, stop_btn=True, **given)


def _idle() -> Any:  # noqa: ANN401
    return gr.Textbox(submit_btn=True, stop_btn=False)
