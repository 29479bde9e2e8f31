"""A conversation in a terminal: answers as they come, and commands that begin with a slash."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from hanpaca.cli.chat_lines import Read
from hanpaca.cli.words import worded
from hanpaca.errors import HanpacaError, RecipeError
from hanpaca.steps.chat import Chat

HELP = """\
/retry          ask again, with another seed
/undo           take back the last question and its answer
/edit [TEXT]    change the last question and ask it in place of the old one
/system [TEXT]  show or set the system prompt
/set [NAME N]   show or set what tokens are chosen by, such as /set temperature 0.7
/save FILE      write the conversation; /load FILE goes on with one
/model [PATH]   show the file, or go on with another model
/clear          begin anew
/exit           leave, as Ctrl-D does; Ctrl-C stops an answer or clears the line"""
_LEAVE = "/exit"


@dataclass
class TerminalTalk:
    """Who is talking with what."""

    chat: Chat
    read: Read
    write: Callable[[str], None]
    """Shows text as it comes."""
    note: Callable[[str], None]
    """Shows a line that the model did not write."""
    typed: bool
    """A person types: Ctrl-C ends a line or an answer, not the program."""
    failed: HanpacaError | None = None
    """The last question that came to nothing."""
    saved: set[Path] = field(default_factory=set)
    """Files of this conversation, which it may replace."""

    def run(self) -> None:
        """Talk until the input ends or the user leaves; a fault ends an answer and no more.

        Raises:
            DataError: Lines from a pipe are not in their encoding.
            KeyboardInterrupt: Where nobody types.
        """
        begun = ""
        while True:
            try:
                line = self.read(begun).strip()
                begun = ""
                if line == _LEAVE:
                    return
                begun = self._act(line)
            except EOFError:
                self.write("\n")
                return
            except KeyboardInterrupt:
                if not self.typed:
                    raise
                begun = ""
                self.note("Ctrl-D or /exit leaves.")

    def say(self, pieces: Iterator[str]) -> None:
        """Show an answer as it comes; Ctrl-C stops it, and what was said stays."""
        try:
            with closing(cast(Any, pieces)):
                for piece in pieces:
                    self.write(piece)
        except KeyboardInterrupt:
            if not self.typed:
                raise
            self.write(" …")
        except HanpacaError as error:
            self.failed = error
            self.note(f"hanpaca: {worded(error)}")
            return
        self.write("\n")

    def _act(self, line: str) -> str:
        """Do what a line says; gives what the next line begins as."""
        if not line.startswith("/"):
            if line:
                self.say(self.chat.stream(line))
            return ""
        word, _, rest = line.partition(" ")
        try:
            return self._command(word, rest.strip())
        except HanpacaError as error:
            self.note(f"hanpaca: {worded(error)}")
        except OSError as error:
            self.note(f"hanpaca: {error.filename}: {error.strerror}")
        return ""

    def _command(self, word: str, rest: str) -> str:
        session = self.chat.session
        match word:
            case "/retry":
                self.say(session.retry())
            case "/undo":
                question = session.undo()
                self.note(f"taken back: {question}" if question else "there is nothing to undo")
            case "/edit":
                return self._edit(rest)
            case "/system":
                session.system = rest or session.system
                self.note(f"system prompt: {session.system or 'none'}")
            case "/set":
                self._set(rest)
            case "/clear":
                session.clear()
                self.note("begun anew")
            case "/save" | "/load" | "/model":
                self._open(word, rest)
            case _:
                self.note(HELP)
        return ""

    def _open(self, word: str, rest: str) -> None:
        session = self.chat.session
        match word:
            case "/save":
                self._save(_file(rest))
            case "/load":
                session.load(_file(rest))
            case _:
                if rest:
                    self.chat.use(_file(rest))
                self.note(self.chat.described)
                return
        self.note(f"{rest}: {len(session.messages) // 2} turns")

    def _edit(self, text: str) -> str:
        question = self.chat.undo()
        if question is None:
            raise RecipeError("there is no question to change")
        if not text:
            return question
        self.say(self.chat.stream(text))
        return ""

    def _set(self, text: str) -> None:
        session = self.chat.session
        name, _, value = text.replace("=", " ").partition(" ")
        if name:
            session.sampling = session.sampling.changed(name, value.strip())
        named = [one.name for one in fields(session.sampling)]
        self.note(" · ".join(f"{one} {getattr(session.sampling, one):g}" for one in named))

    def _save(self, file: Path) -> None:
        if file.exists() and file.resolve() not in self.saved:
            raise RecipeError(f"{file}: already exists; give another name")
        self.chat.session.save(file)
        self.saved.add(file.resolve())


def _file(text: str) -> Path:
    if not text:
        raise RecipeError("a file is wanted, such as talk.json")
    if not text.isprintable():
        raise RecipeError(f"{text!a}: no name of a file")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RecipeError(f"{text}: there is no such user") from error
