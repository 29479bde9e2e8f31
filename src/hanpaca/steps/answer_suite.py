"""Answers to the suite: every prompt once, by one rule, kept by what decides them."""

import json
import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hanpaca.data.jsonl import read_jsonl
from hanpaca.errors import ArtifactError
from hanpaca.evals.tasks.suite.prompts import Suite, SuitePrompt, load_suite
from hanpaca.evals.tasks.suite.score import SUITE_HEADER, Said, SuiteResult, checked_answers
from hanpaca.files import (
    content_key,
    describe_file,
    digest_of,
    locked,
    parse_json,
    read_bytes,
    telling_where,
    whole,
)
from hanpaca.inference.engine import NOT_READ, Answer, ChatModel
from hanpaca.inference.sampling import Sampling
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.chat import note_template, read_template
from hanpaca.steps.model_file import cache_folder, model_file

__all__ = [
    "SUITE_HEADER",
    "Sampling",
    "Suite",
    "SuiteAsking",
    "SuiteResult",
    "answer_suite",
    "load_suite",
    "read_suite_results",
]
REVIEW_KEYS = {"review", "votes"}
"""Of what people saved of a page of answers, and of no results."""
_ANSWERS = "answers.jsonl"
_VERSION = 1
"""Of what is answered to the same prompts."""
_KEY_DIGITS = 20
_MOST_TOKENS = 256


@dataclass(frozen=True)
class SuiteAsking:
    """How a suite is asked: one rule for all models that are compared."""

    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=_MOST_TOKENS))
    """Greedy unless told otherwise; there is one answer a prompt, never the best of several."""
    context_tokens: int = 2048
    """Of each conversation."""
    num_parallel: int = 4
    """Conversations at a time. llama.cpp rounds differently in batches of another size, so this is
    part of the rule."""
    threads: int | None = None
    """None for as many as cores are free."""
    template: str | None = None
    """`chatml`, `alpaca` or a file; None for each model's own."""

    def rule(self) -> dict[str, Any]:
        """What of this decides answers, JSON-safe."""
        return {
            **asdict(self.sampling),
            "context_tokens": self.context_tokens,
            "num_parallel": self.num_parallel,
            "template": read_template(self.template),
        }


def answer_suite(
    models: Sequence[Path | str],
    *,
    suite: Suite | None = None,
    asking: SuiteAsking | None = None,
    output: Path | str | None = None,
    tell: Tell = silent,
) -> list[SuiteResult]:
    """Ask models every prompt of a suite, and check what a program can check.

    Answers are kept in the cache by the content of the model's file, the version and seed of the
    suite and the rule: asked again, they are read; interrupted, they are gone on with.

    >>> answer_suite(["model.gguf"], output="answers")  # doctest: +SKIP

    Args:
        models: GGUF files, runs, or folders of weights, of which a file is made and kept.
        suite: None for the one that comes with the package.
        asking: How.
        output: A folder for one file of results a model, which `judge_suite` and `review_suite`
            read. A file of the same model is replaced; where another model of this name has
            answers there, a number is added to the name.
        tell: Told how far it is.

    Raises:
        ArtifactError: There is no model, or it cannot be loaded.
        ResourceError: The cache or the output cannot be written.
    """
    suite, asking = suite or load_suite(), asking or SuiteAsking()
    names = _names(models)
    results = [
        _answered(name, Path(model), suite, asking, tell)
        for name, model in zip(names, models, strict=True)
    ]
    return [_written(result, Path(output), tell) for result in results] if output else results


def _written(result: SuiteResult, folder: Path, tell: Tell) -> SuiteResult:
    """Write results where no other model's are; as they are called there."""
    names = chain([result.model], (f"{result.model}-{number}" for number in count(2)))
    name = next(
        one for one in names if _asked_in(folder / f"{one}.json") in (None, result.fingerprint)
    )
    if name != result.model:
        told = f"{folder} has answers of another {result.model}: these are called {name}"
        tell(Progress(0, note=told))
    result = replace(result, model=name)
    with whole(folder / f"{name}.json", replace=True) as half:
        text = TypeAdapter(SuiteResult).dump_json(result, indent=2).decode()
        half.write_text(text + "\n", encoding="utf-8")
    return result


def _asked_in(file: Path) -> str | None:
    """The fingerprint of the model whose answers a file has; None where it has none."""
    try:
        return str(parse_json(read_bytes(file), str(file))["fingerprint"])
    except (ArtifactError, KeyError):
        return None


def read_suite_results(folder: Path) -> list[SuiteResult]:
    """Read what `answer_suite` wrote, and check that the models answered the same.

    What the page of `review_suite` saved may lie there too.

    Raises:
        ArtifactError: There are no results, one is damaged, two are of models of one name, or they
            are of different suites or rules.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        tree = parse_json(read_bytes(file), str(file))
        if tree.keys() >= REVIEW_KEYS:
            continue
        try:
            found.append(TypeAdapter(SuiteResult).validate_python(tree))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "the file"
            raise ArtifactError(
                f"{file}: {where}: {fault['msg']}: no answers to a suite"
            ) from error
    if not found:
        raise ArtifactError(f"{folder}: no answers to a suite here", "ask with {answer_suite()}")
    _check_alike(found, folder)
    return found


def _check_alike(found: Sequence[SuiteResult], folder: Path) -> None:
    first, models = found[0], Counter(one.model for one in found)
    asked = {one.said.name for one in first.answers}
    for other in found[1:]:
        prompts = {one.said.name for one in other.answers}
        if (other.suite, other.seed, prompts) != (first.suite, first.seed, asked):
            raise ArtifactError(f"{folder}: {other.model} and {first.model} answered other prompts")
        if other.sampling != first.sampling:
            raise ArtifactError(
                f"{folder}: {other.model} and {first.model} answered by other rules"
            )
    if twice := [model for model, times in models.items() if times > 1]:
        raise ArtifactError(
            f"{folder}: two files have answers of a model called {twice[0]}",
            "remove one, or change its `model`",
        )


def _names(models: Sequence[Path | str]) -> list[str]:
    """What models are called: as short as they can be told apart."""
    names = [Path(one).resolve().name.removesuffix(".gguf") or "model" for one in models]
    if len(set(names)) == len(names):
        return names
    return [f"{name}-{number}" for number, name in enumerate(names, 1)]


def _answered(name: str, model: Path, suite: Suite, asking: SuiteAsking, tell: Tell) -> SuiteResult:
    file = model_file(model, tell=tell)
    if not asking.template:
        note_template(file, tell)
    described = describe_file(file, name=file.name)
    rule = asking.rule()
    prompts = [[one.name, one.turns] for one in suite.prompts]
    key = content_key([_VERSION, rule, suite.version, suite.seed, prompts], [described])
    folder = cache_folder().parent / "suite" / key[:_KEY_DIGITS]
    with telling_where(folder), locked(folder):
        said = _kept(folder / _ANSWERS)
        missing = [one for one in suite.prompts if one.name not in said]
        if missing:
            said |= _ask(
                file, missing, folder / _ANSWERS, asking, _named(tell, name, suite, missing)
            )
    return SuiteResult(
        model=name,
        fingerprint=described.sha256,
        suite=suite.version,
        seed=suite.seed,
        sampling={**rule, "template": digest_of(rule["template"]) if rule["template"] else None},
        answers=checked_answers(suite, said),
    )


def _named(tell: Tell, name: str, suite: Suite, missing: Sequence[SuitePrompt]) -> Tell:
    num_kept = len(suite.prompts) - len(missing)

    def told(progress: Progress) -> None:
        done = num_kept + progress.done
        tell(Progress(done, len(suite.prompts), "prompts", f"{name} answers"))

    return told


def _kept(file: Path) -> dict[str, Said]:
    """The whole lines of an attempt at the same work."""
    if not file.is_file():
        return {}
    data = file.read_bytes()
    os.truncate(file, data.rfind(b"\n") + 1)
    found = (TypeAdapter(Said).validate_python(row) for row in read_jsonl(file))
    return {one.name: one for one in found}


def _ask(
    file: Path, prompts: Sequence[SuitePrompt], answers: Path, asking: SuiteAsking, tell: Tell
) -> Mapping[str, Said]:
    """Ask what was not answered, and write each answer as it comes."""
    found: dict[str, Said] = {}
    with (
        ChatModel(
            file,
            context_tokens=asking.context_tokens,
            num_threads=asking.threads,
            num_parallel=asking.num_parallel,
            chat_template=read_template(asking.template),
        ) as model,
        answers.open("a", encoding="utf-8") as stream,
        closing(_in_parallel(model, prompts, asking)) as answered,
    ):
        for said in answered:
            stream.write(json.dumps(asdict(said), ensure_ascii=False) + "\n")
            stream.flush()
            found[said.name] = said
            tell(Progress(len(found)))
    return found


def _in_parallel(
    model: ChatModel, prompts: Sequence[SuitePrompt], asking: SuiteAsking
) -> Generator[Said, None, None]:
    with model.asking() as pool:
        asked = [pool.submit(_talk, model, one, asking.sampling) for one in prompts]
        for one in as_completed(asked):
            yield one.result()


def _talk(model: ChatModel, prompt: SuitePrompt, sampling: Sampling) -> Said:
    """One conversation: the model's own answers are what its next turn is asked upon.

    A turn that does not fit into the context ends it.
    """
    messages: list[dict[str, str]] = []
    answers: list[Answer] = []
    for turn in prompt.turns:
        messages.append({"role": "user", "content": turn})
        ended = bool(answers) and answers[-1].too_long
        answer = NOT_READ if ended else model.answer_if_short(messages, sampling)
        messages.append({"role": "assistant", "content": answer.text})
        answers.append(answer)
    return Said(
        prompt.name,
        tuple(one.text for one in answers),
        tuple(one.stopped for one in answers),
        tuple(one.num_tokens for one in answers),
        too_long=answers[-1].too_long,
    )
