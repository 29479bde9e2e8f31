"""`hanpaca suite`: ten tasks of twenty prompts, answered, judged, and reviewed by people."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanpaca.cli.display import counter, errors, print_table, results
from hanpaca.cli.options import AsJson
from hanpaca.cli.pages import Lang
from hanpaca.cli.words import speak_as
from hanpaca.progress import Progress, Tell
from hanpaca.report.wording import ENGLISH

if TYPE_CHECKING:
    from hanpaca.steps.answer_suite import SuiteResult

suite = typer.Typer(
    name="suite", help="200 prompts of ten tasks: answer, judge, review.", no_args_is_help=True
)
SuiteFolder = Annotated[
    Path | None, typer.Option("--prompts", help="Folder of another suite; a .yaml file a task.")
]
Answers = Annotated[Path, typer.Argument(metavar="FOLDER", help="What `suite ask` wrote.")]


@suite.command("ask")
def ask(
    models: Annotated[list[Path], typer.Argument(help="GGUF files, runs or model folders.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the answers, as JSON.")
    ] = None,
    prompts: SuiteFolder = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    repeat_penalty: Annotated[float, typer.Option(help="1 for none.")] = 1.1,
    seed: Annotated[int, typer.Option(help="Of drawn numbers, and of sampling.")] = 0,
    context_tokens: Annotated[int, typer.Option(help="Room for each conversation.")] = 2048,
    threads: Annotated[int | None, typer.Option(help="Else as many as cores are free.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="A name of docs/chat.md, such as chatml, or a Jinja file; else its own."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask models the suite, and check what a program can check.

    Every prompt is asked once by the same rule. Answers are kept and read again.
    """
    from hanpaca.steps.answer_suite import Sampling, SuiteAsking, answer_suite, load_suite

    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, repeat_penalty=repeat_penalty, seed=seed
    )
    asking = SuiteAsking(
        sampling, context_tokens=context_tokens, threads=threads, template=template
    )
    found = answer_suite(
        models,
        suite=load_suite(seed=seed, folder=prompts),
        asking=asking,
        output=output,
        tell=_counted(),
    )
    print_suite(found, as_json=as_json)


@suite.command("judge")
def judge(
    folder: Answers,
    url: Annotated[str, typer.Option(help="Endpoint that speaks OpenAI's chat, up to /v1.")],
    model: Annotated[str, typer.Option(help="Name of the judge there.")],
    key_from: Annotated[
        str | None, typer.Option(help="Environment variable that holds the key.")
    ] = None,
    prompts: SuiteFolder = None,
    temperature: Annotated[float, typer.Option(help="Of the judge.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the judge, and of the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare every two models by a judge, in both orders, if it stands 20 control pairs.

    Every reply is kept in FOLDER/judged and asked for once.
    """
    from hanpaca.steps.answer_suite import load_suite, read_suite_results
    from hanpaca.steps.judge_suite import PAIR_HEADER, Endpoint, judge_suite, pair_rows

    asked_with = read_suite_results(folder)[0].seed
    found = judge_suite(
        folder,
        Endpoint(url, model, key_from, temperature=temperature, seed=seed),
        suite=load_suite(seed=asked_with, folder=prompts),
        seed=seed,
        tell=_counted(),
    )
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    print_table(PAIR_HEADER, pair_rows(found))
    if found.strengths:
        rows = [
            (name, f"{value:+.2f}", f"{low:+.2f} to {high:+.2f}")
            for name, (value, low, high) in found.strengths.items()
        ]
        print_table(("model", "strength (log-odds)", "95 %"), rows)
    if unreadable := sum(one.unreadable for one in found.pairs):
        errors.print(f"{unreadable} replies had no verdict and count as ties.", markup=False)
    if too_long := sum(map(len, (one.too_long for one in found.pairs))):
        told = f"{too_long} comparisons were too long for the judge and are left out"
        errors.print(f"{told}.", markup=False)


@suite.command("review")
def review(
    folder: Answers,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page, one HTML file.")],
    models: Annotated[
        list[str] | None, typer.Option(help="Of more than two models, these; give it twice.")
    ] = None,
    prompts: SuiteFolder = None,
    seed: Annotated[int, typer.Option(help="Of the order of prompts and sides.")] = 0,
    lang: Lang = ENGLISH,
) -> None:
    """Write a page on which people compare two models without knowing which is which."""
    from hanpaca.steps.answer_suite import load_suite, read_suite_results
    from hanpaca.steps.review_suite import review_suite

    asked_with = read_suite_results(folder)[0].seed
    number = review_suite(
        folder,
        output,
        models=models or (),
        suite=load_suite(seed=asked_with, folder=prompts),
        seed=seed,
        lang=speak_as(lang),
    )
    errors.print(
        f"{output}: {number} prompts; `hanpaca suite agree` reads what it saves.",
        markup=False,
        soft_wrap=True,
    )


@suite.command("agree")
def agree(
    folder: Answers,
    files: Annotated[list[Path], typer.Argument(help="What the page saved, of each person.")],
    models: Annotated[list[str] | None, typer.Option(help="As given to `suite review`.")] = None,
    seed: Annotated[int, typer.Option(help="As given to `suite review`.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What people found, and how far they agree with each other and with the judge."""
    from hanpaca.steps.review_suite import read_reviews

    found = read_reviews(folder, files, models=models or (), seed=seed)
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    rates = [
        (name, f"{rate.value:.1f}", f"{rate.low:.1f}–{rate.high:.1f}")
        for name, rate in found.rates.items()
    ]
    print_table(
        ("reviewer", f"{found.models[0]} better than {found.models[1]}, %", "95 %"), rows=rates
    )
    judged = {f"{name}, judge": one for name, one in found.with_judge.items()}
    kappas = [
        (
            name,
            "–" if one.kappa is None else f"{one.kappa:.2f}",
            "–" if one.low is None else f"{one.low:.2f} to {one.high:.2f}",
            f"{one.num_prompts}",
        )
        for name, one in {**found.among_people, **judged}.items()
    ]
    if kappas:
        print_table(("who", "kappa", "95 %", "prompts"), kappas)


@suite.command("kept")
def kept(
    before: Annotated[Path, typer.Argument(help="The model as it was.")],
    after: Annotated[Path, typer.Argument(help="The model after training.")],
    seed: Annotated[int, typer.Option(help="Of the interval.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask 64 short English questions before and after, and say which answers are left."""
    from hanpaca.steps.abilities import compare_abilities

    found = compare_abilities(before, after, seed=seed, tell=_counted())
    print(json.dumps({**asdict(found), "judgement": found.judgement}) if as_json else found)


def print_suite(found: "list[SuiteResult]", *, as_json: bool) -> None:
    """Tables of the models, or all that was found as JSON."""
    from hanpaca.steps.answer_suite import SUITE_HEADER

    if as_json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False))
        return
    for one in found:
        results.print(f"\n{one.model}", markup=False)
        print_table(SUITE_HEADER, one.rows())
        strict, loose = one.instructions()
        if loose.asked:
            told = f"{loose.right} of {loose.asked} kept, {strict.right} as asked"
            results.print(f"single instructions: {told}", markup=False)
        if (score := one.chrf()) is not None:
            results.print(f"translations: mean chrF {score:.1f}", markup=False)
        if too_long := one.too_long:
            told = f"{len(too_long)} prompts did not fit into the context and count as wrong"
            results.print(f"{told}: {', '.join(too_long)}", markup=False, soft_wrap=True)
    rule = found[0].sampling
    how = "greedy" if not rule["temperature"] else f"temperature {rule['temperature']:g}"
    errors.print(
        f"Suite {found[0].suite}, seed {found[0].seed}: one answer a prompt, {how}, repeat penalty "
        f"{rule['repeat_penalty']:g}, at most {rule['max_tokens']} tokens.",
        markup=False,
        soft_wrap=True,
    )


def _counted() -> Tell:
    """A line now and then for each model, and notes as they are."""
    lines: dict[str, Callable[[int, int], None]] = {}

    def tell(progress: Progress) -> None:
        if not progress.unit:
            errors.print(progress.note, markup=False, soft_wrap=True)
        elif progress.unit != "bytes":
            line = lines.setdefault(progress.note, counter(progress.note))
            line(int(progress.done), int(progress.total or 0))

    return tell
