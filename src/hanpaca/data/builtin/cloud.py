"""Tencent Cloud's interfaces: what each parameter is, in Chinese, beside its English name."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from hanpaca.data.builtin.material import (
    BuiltinMaterial,
    TaskQuestion,
    draw_whole,
    exchange,
    grouped,
    secrets_of,
    together,
    with_options,
)
from hanpaca.errors import DataError

TASK = "parameter_name"
_PARAMETER = re.compile(r"^ {8}:param _?(\w+): (.+)$", re.MULTILINE)
_NULL = re.compile(r"注意：此字段可能返回 ?null，表示取不到有效值。")
_MARKUP = re.compile(r"<[^>]*>|https?://\S+|\[|\]\([^)]*\)|\*\*|`")
_PHRASE = re.compile(r"[\u4e00-\u9fff]{3,10}(?=[，。；（(：:,.\s]|$)")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|\d+")
_ASK = "接口参数“{phrase}”的英文名是什么？"
_EXPLAIN = "接口参数 {name} 是什么？"
_LEAST_HAN, _MOST = 20, 400
_MOST_BYTES = 32_000_000
_TOLD, _QUESTIONS, _RUN = 0.2, 400, 24


@dataclass(frozen=True)
class _Parameter:
    service: str
    name: str
    text: str
    """What the documentation says of it."""
    phrase: str
    """What it is called in Chinese, where the documentation begins with that."""

    @property
    def english(self) -> str:
        return " ".join(_NAME_PART.findall(self.name)).lower()


def build_cloud(folder: Path, *, num_heldout: int = 300, seed: int = 0) -> BuiltinMaterial:
    """Divide the documentation by service.

    Services are held out whole until they make up `num_heldout` documents. Asked about are those
    phrases of theirs that no service learned from has.

    Args:
        folder: Of the package.
        num_heldout: Documents of whole services for the evaluation only.
        seed: Decides which.

    Raises:
        DataError: The folder holds too little.
    """
    services, num_dropped = _read(folder)
    heldout = draw_whole(services, num_heldout, seed, lambda some: len(_documents(some)))
    if not heldout:
        raise DataError(f"{folder}: {len(services)} services are too few to hold any out")
    hidden = [one for name in sorted(heldout) for one in services[name]]
    secrets = secrets_of([one.text for one in hidden], _RUN)
    rest = [one for name in services if name not in heldout for one in services[name]]
    learned = [one for one in rest if not secrets.found_in(one.text)]
    known = {one.phrase for one in learned}
    names = _names(learned)
    chance = random.Random(seed)
    documents = [text for name in sorted(heldout) for text in _documents(services[name])]
    chance.shuffle(documents)
    new = [one for one in hidden if one.phrase and one.phrase not in known]
    chance.shuffle(new)
    kept = grouped(learned, lambda one: one.service)
    return BuiltinMaterial(
        documents=tuple(chain.from_iterable(map(_documents, kept.values()))),
        conversations=tuple(
            exchange(_EXPLAIN.format(name=one.name), one.text)
            for one in learned
            if len(one.text) <= _MOST // 4 and chance.random() < _TOLD
        ),
        heldout_documents=tuple(documents),
        heldout_questions=tuple(
            {"word": "", "question": _EXPLAIN.format(name=one.name), "reference": one.text}
            for one in new
        ),
        asked=tuple(_asked(new, chance)),
        drills={
            TASK: tuple(
                exchange(_ASK.format(phrase=phrase), name) for phrase, name in names.items()
            )
        },
        secrets=secrets,
        num_dropped=num_dropped,
        num_leaking=len(rest) - len(learned),
    )


def _read(folder: Path) -> tuple[dict[str, list[_Parameter]], int]:
    """The parameters of each service's newest version; what is said twice counts once."""
    services: dict[str, list[_Parameter]] = {}
    seen: set[str] = set()
    num_found = num_kept = 0
    for service in sorted(one for one in folder.iterdir() if one.is_dir()):
        versions = sorted(service.glob("v*/models.py"))
        if not versions or versions[-1].stat().st_size > _MOST_BYTES:
            continue
        some = []
        for name, said in _PARAMETER.findall(_text(versions[-1])):
            num_found += 1
            text = _tidied(said)
            if text not in seen and _HAN.search(text):
                seen.add(text)
                phrase = _PHRASE.match(text)
                some.append(_Parameter(service.name, name, text, phrase[0] if phrase else ""))
        num_kept += len(some)
        if some:
            services[service.name] = some
    return services, num_found - num_kept


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8: {error}") from error


def _tidied(text: str) -> str:
    return " ".join(_MARKUP.sub("", _NULL.sub("", text)).split())[:_MOST]


def _documents(parameters: Sequence[_Parameter]) -> list[str]:
    prose = [one.text for one in parameters if len(_HAN.findall(one.text)) >= _LEAST_HAN]
    return together("", prose)


def _names(parameters: Sequence[_Parameter]) -> dict[str, str]:
    """The English of each phrase: the first that is as long as the phrase lets one expect."""
    found: dict[str, str] = {}
    for one in parameters:
        if one.phrase and _is_fair(one):
            found.setdefault(one.phrase, one.english)
    return found


def _is_fair(one: _Parameter) -> bool:
    """Whether name and phrase may say the same: some two characters a word."""
    return abs(len(one.phrase) / 2 - len(one.english.split())) <= 1


def _asked(parameters: Sequence[_Parameter], chance: random.Random) -> Iterator[TaskQuestion]:
    fair = [one for one in parameters if _is_fair(one)][:_QUESTIONS]
    for one in fair:
        words = set(one.english.split())
        others = [other.english for other in fair if not words & set(other.english.split())]
        question = _ASK.format(phrase=one.phrase)
        if made := with_options(TASK, question, one.english, others, chance):
            yield made
