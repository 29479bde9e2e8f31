"""Questions of multiple choice out of any layout: C-Eval's, CMMLU's, MMLU's, AGIEval's, own files.

Read with care: an option `NA` is a text, an empty one is a fault, and every fault names its row.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanpaca.data.choice.layouts import find_files
from hanpaca.data.choice.rows import question_rows
from hanpaca.data.choice.sets import KnownSet, known_set
from hanpaca.errors import DataError
from hanpaca.files import digest_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OPTIONS, _ANSWERS = ("choices", "options"), ("answer", "label", "gold", "target")
_SUBJECTS = ("subject", "task", "category")
_SHOWN = 3


@dataclass(frozen=True)
class Question:
    """One question; `answer` is the number of the right option, from 0."""

    subject: str
    text: str
    options: tuple[str, ...]
    answer: int
    place: str
    """File and row."""


@dataclass(frozen=True)
class QuestionSet:
    """Questions that are asked together."""

    name: str
    wording: str
    """How they are asked, where nothing else is said."""
    questions: tuple[Question, ...]
    examples: Mapping[str, tuple[Question, ...]]
    """Solved ones by subject, to be shown before a question."""
    groups: Mapping[str, str]
    """Of subjects, as published; none of an own set."""
    titles: Mapping[str, str]
    """What a subject is called in a prompt, where that is not its name."""
    notes: tuple[str, ...] = ()
    """What is odd about the files."""

    @property
    def version(self) -> str:
        """Hash of all that is asked, whatever files it lies in."""
        told = [[one.subject, one.text, one.options, one.answer] for one in self.questions]
        shown = [
            [subject, [[one.text, one.options, one.answer] for one in some]]
            for subject, some in sorted(self.examples.items())
        ]
        return digest_of([told, shown])


def read_questions(
    path: Path | str,
    *,
    name: str | None = None,
    examples: Path | str | None = None,
    encoding: str = "utf-8",
    skip_bad_rows: bool = False,
) -> QuestionSet:
    """Read a file, or a folder in the layout of a published set.

    ```python
    found = read_questions("ceval-exam", name="ceval")
    print(len(found.questions), found.notes)
    ```

    A row has `question`, its options as a list in `choices` or `options` or in columns `A`, `B`, …,
    and `answer` (a letter, or in JSON a number from 0); `subject` or `task` may say what it belongs
    to, else the file's name does. AGIEval's `passage`, `options` and `label` are read too.

    Args:
        path: A .csv, .json or .jsonl file, perhaps packed, or a folder of them.
        name: Of a published set (`ceval`, `cmmlu`, `mmlu`), where the subjects do not tell.
        examples: Solved questions to be shown before others, where the folder has none in `dev`.
        encoding: Of CSV files, by its Python name.
        skip_bad_rows: Leave rows with faults out and count them, instead of stopping at the first.

    Raises:
        DataError: A file is damaged, or a row has a fault: names file and row.
        RecipeError: No published set has this name.
    """
    path = Path(path)
    asked, shown = find_files(path, name=name)
    shown = find_files(Path(examples), name=name)[0] if examples else shown
    if not asked:
        raise DataError(f"{path}: no questions here; give a .csv, .json or .jsonl file")
    skipped: list[DataError] = []
    found = [
        one for file in asked for one in _read(file, encoding, skipped if skip_bad_rows else None)
    ]
    solved = [one for file in shown for one in _read(file, encoding, None)]
    if not found:
        raise DataError(f"{path}: no question in it")
    published = known_set([one.subject for one in found], path=path, name=name)
    if published:
        _check_number(found, published)
    by_subject: dict[str, list[Question]] = defaultdict(list)
    for one in solved:
        by_subject[one.subject].append(one)
    return QuestionSet(
        name=published.title if published else path.name.partition(".")[0],
        wording=published.wording if published else _wording(found),
        questions=tuple(found),
        examples={subject: tuple(some) for subject, some in by_subject.items()},
        groups=published.groups if published else {},
        titles=published.titles if published else {},
        notes=(*_skipped(skipped), *_twice(found)),
    )


def _read(file: Path, encoding: str, skipped: list[DataError] | None) -> Iterator[Question]:
    subject = _subject_of(file)
    for place, row in question_rows(file, encoding=encoding):
        try:
            if isinstance(row, DataError):
                raise row
            yield _question(row, place, subject)
        except DataError as error:
            if skipped is None:
                raise
            skipped.append(error)


def _subject_of(file: Path) -> str:
    stem = file.name.partition(".")[0]
    for split in ("_val", "_dev", "_test"):
        stem = stem.removesuffix(split)
    return stem


def _question(row: Any, place: str, subject: str) -> Question:  # noqa: ANN401  # of a file
    if not isinstance(row, dict):
        raise _fault(place, f"a row is an object, not {type(row).__name__}")
    tree = {str(key).strip().lower(): value for key, value in row.items()}
    text = _text(tree.get("question"), place, "question")
    if passage := tree.get("passage"):
        text = f"{_text(passage, place, 'passage')}\n{text}"
    options = _options(tree, place)
    named = next((tree[key] for key in _SUBJECTS if tree.get(key)), subject)
    answer = _answer(tree, len(options), place)
    return Question(str(named), text, options, answer, place)


def _options(tree: Mapping[str, Any], place: str) -> tuple[str, ...]:
    given = next((tree[key] for key in _OPTIONS if key in tree), None)
    if isinstance(given, dict) and isinstance(given.get("text"), list):
        given = given["text"]
    if given is None:
        letters = [letter for letter in LETTERS.lower() if letter in tree]
        given = [tree[letter] for letter in letters]
        if letters != list(LETTERS.lower()[: len(letters)]):
            raise _fault(place, f"options {', '.join(letters).upper()} are not A, B, …")
    if not isinstance(given, list) or not 2 <= len(given) <= len(LETTERS):
        number = len(given) if isinstance(given, list) else "no"
        raise _fault(place, f"{number} options; from 2 to {len(LETTERS)} are needed")
    texts = [_text(one, place, f"option {LETTERS[at]}") for at, one in enumerate(given)]
    labels = [f"({letter})" for letter in LETTERS[: len(texts)]]
    if all(text.startswith(label) for text, label in zip(texts, labels, strict=True)):
        texts = [
            _text(text.removeprefix(label), place, f"option {label}")
            for text, label in zip(texts, labels, strict=True)
        ]
    return tuple(texts)


def _answer(tree: Mapping[str, Any], number: int, place: str) -> int:
    given = next((tree[key] for key in _ANSWERS if key in tree), None)
    if isinstance(given, list) and len(given) == 1:
        (given,) = given
    if given is None or given == "":
        raise _fault(place, "no answer; those of a test split are often not published: take `val`")
    if isinstance(given, str):
        letter = given.strip().upper().strip("().、．（）")
        at = LETTERS.find(letter) if len(letter) == 1 else -1
    else:
        at = given if isinstance(given, int) and not isinstance(given, bool) else -1
    if not 0 <= at < number:
        raise _fault(place, f"the answer {given!r:.40} is none of {number} options")
    return at


def _text(value: object, place: str, what: str) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        value = json.dumps(value)
    if not isinstance(value, str):
        raise _fault(place, f"{what} is missing" if value is None else f"{what} is no text")
    if not value.strip():
        raise _fault(place, f"{what} is empty")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _fault(place, f"{what} holds half a surrogate pair, which is no character")
    return value.strip()


def _fault(place: str, found: str) -> DataError:
    return DataError(f"{place}: {found}", "mend the row, or set {skip_bad_rows} to leave it out")


def _check_number(found: Sequence[Question], published: KnownSet) -> None:
    for one in found:
        if len(one.options) != published.num_options:
            has = f"{len(one.options)} options, where {published.title}"
            raise _fault(one.place, f"{has} has {published.num_options}")


def _wording(found: Sequence[Question]) -> str:
    return "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in found[0].text) else "en"


def _skipped(errors: Sequence[DataError]) -> Iterator[str]:
    if errors:
        first = "; ".join(error.message for error in errors[:_SHOWN])
        yield f"{len(errors)} rows left out: {first}"


def _twice(found: Sequence[Question]) -> Iterator[str]:
    """Published sets hold some too, and their numbers count them."""
    keys = [(one.subject, one.text, one.options) for one in found]
    again = [key for key, times in Counter(keys).items() if times > 1]
    if again:
        places = [one.place for one, key in zip(found, keys, strict=True) if key == again[0]]
        yield f"{len(again)} questions stand there twice, and count twice: {', '.join(places)}"
