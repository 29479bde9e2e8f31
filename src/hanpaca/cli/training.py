"""Commands that train on the user's own files: grow, pretrain, sft, dpo, bakeoff."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hanpaca.cli.chat import BaseFolder, Encoding, Output, TextField, Texts, read_texts
from hanpaca.cli.display import errors, print_table, steps_shown
from hanpaca.cli.from_settings import with_settings
from hanpaca.progress import Progress
from hanpaca.settings import DpoSettings, PretrainSettings, RowsSettings, SftSettings

NewRows = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Rows at the end of the vocabulary to train too; when not given, those grow added.",
    ),
]
Replay = Annotated[list[Path] | None, typer.Option(help="Text of the old language; repeatable.")]
ReplayHeldout = Annotated[
    list[Path] | None,
    typer.Option(help="Text of the old language to measure on, not learned; repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of every random choice.")]
Extended = Annotated[Path, typer.Option(help="Folder of the base's extended tokenizer.")]
SkipBadRows = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave malformed rows out, and count them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@with_settings(RowsSettings, names={"input": "input_rows", "output": "output_rows"})
def grow(
    base: BaseFolder,
    extended: Extended,
    text: Texts,
    output: Output,
    settings: RowsSettings,
    replay: Replay = None,
    seed: Seed = 0,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Give a model the rows of its extended tokenizer's new pieces; every old row stays."""
    from hanpaca.steps.grow import grow as grow_base

    texts = read_texts(text, encoding=encoding, text_field=text_field)
    old = read_texts(replay or [], encoding=encoding, text_field=text_field)
    found = grow_base(
        base, extended, texts, output, settings=settings, replay=old, seed=seed, tell=_note
    )
    head = "tied" if found["tied"] else "with rows of its own"
    print(f"{output}: {found['num_new_rows']} new rows after {found['num_old_rows']}, head {head}")
    if "num_translated" in found:
        print(f"{found['num_translated']} of the new pieces stand in the dictionary")


@with_settings(PretrainSettings, names={"weights": "weight"})
def pretrain(
    base: BaseFolder,
    text: Texts,
    output: Output,
    settings: PretrainSettings,
    replay: Replay = None,
    replay_heldout: ReplayHeldout = None,
    new_rows: NewRows = None,
    seed: Seed = 0,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
) -> None:
    """Continue pretraining on your own text; writes an adapter. Run again to resume."""
    from hanpaca import Texts
    from hanpaca.steps.pretrain import pretrain as train

    metrics = train(
        base,
        Texts(tuple(text), encoding, text_field, _note),
        output,
        settings,
        replay=Texts(tuple(replay or ()), encoding, text_field, _note),
        replay_heldout=read_texts(replay_heldout or [], encoding=encoding, text_field=text_field),
        new_rows=new_rows,
        seed=seed,
        tell=steps_shown(),
    )
    _print_trained(output, metrics)


@with_settings(SftSettings)
def sft(
    base: BaseFolder,
    instructions: Annotated[
        list[Path],
        typer.Option(
            help="Conversations (.json, .jsonl, .csv, .parquet), or a folder; repeatable."
        ),
    ],
    output: Output,
    settings: SftSettings,
    replay: Replay = None,
    replay_heldout: ReplayHeldout = None,
    self_replay_model: Annotated[
        Path | None,
        typer.Option(
            help="Answers the questions of --self-replay-conversations; when not given, the base."
        ),
    ] = None,
    new_rows: NewRows = None,
    seed: Seed = 0,
    encoding: Encoding = "utf-8",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Tune on your own conversations, loss on answers only; writes an adapter."""
    from hanpaca import Texts, read_conversations
    from hanpaca.steps.sft import sft as tune

    found = list(
        read_conversations(instructions, encoding=encoding, skip_bad_rows=skip_bad_rows, tell=_note)
    )
    metrics = tune(
        base,
        [conversation for conversation, _ in found],
        output,
        settings,
        places=[place for _, place in found],
        skip_bad_rows=skip_bad_rows,
        replay=Texts(tuple(replay or ()), encoding, tell=_note),
        replay_heldout=read_texts(replay_heldout or [], encoding=encoding, text_field="text"),
        self_replay_model=self_replay_model,
        new_rows=new_rows,
        seed=seed,
        tell=steps_shown(),
    )
    _print_trained(output, metrics)


@with_settings(DpoSettings)
def dpo(
    base: BaseFolder,
    preferences: Annotated[
        list[Path],
        typer.Option(
            help="Pairs of answers (.json, .jsonl, .csv, .parquet), or a folder; repeatable."
        ),
    ],
    output: Output,
    settings: DpoSettings,
    seed: Seed = 0,
    encoding: Encoding = "utf-8",
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Tune on pairs of a better and a worse answer (DPO); writes an adapter."""
    from hanpaca import read_preferences
    from hanpaca.steps.dpo import dpo as tune

    found = list(
        read_preferences(preferences, encoding=encoding, skip_bad_rows=skip_bad_rows, tell=_note)
    )
    metrics = tune(
        base,
        [preference for preference, _ in found],
        output,
        settings,
        places=[place for _, place in found],
        seed=seed,
        tell=steps_shown(),
    )
    _print_trained(output, metrics)
    print(
        f"last epoch: margin {metrics['margin']:.3f}, the chosen answer gained more in "
        f"{metrics['accuracy']:.1%} of {metrics['num_pairs']} pairs"
    )


def bakeoff(
    base: BaseFolder,
    extended: Extended,
    text: Texts,
    protected: Replay = None,
    num_tokens: Annotated[
        int, typer.Option(min=0, help="Of the short training; 0 scores the starts alone.")
    ] = 20_000,
    fit_steps: Annotated[
        int, typer.Option(min=0, help="Also try input rows fitted for so many steps.")
    ] = 0,
    untie: Annotated[bool, typer.Option(help="Untie the head of a tied base.")] = False,
    encoding: Encoding = "utf-8",
    text_field: TextField = "text",
    as_json: AsJson = False,
) -> None:
    """Try the starts of new rows on your base and text, and name the best."""
    from hanpaca.steps.bakeoff import bake_off

    scores = bake_off(
        base,
        extended,
        read_texts(text, encoding=encoding, text_field=text_field),
        protected=read_texts(protected or [], encoding=encoding, text_field=text_field),
        num_tokens=num_tokens,
        fit_steps=fit_steps,
        untie=untie,
        tell=_note,
    )
    if as_json:
        print(json.dumps([asdict(score) for score in scores], ensure_ascii=False, indent=2))
        return
    rows = [
        (score.name, *(_number(one) for one in (score.start, score.trained, score.protected)))
        for score in scores
    ]
    header = ("rows", "bits/char at start", f"after {num_tokens} tokens", "old language at the end")
    print_table(header, rows)
    print(f"Best: {scores[0].name}")


def _note(progress: Progress) -> None:
    errors.print(progress.note, markup=False, soft_wrap=True)


def _print_trained(output: Path, metrics: Mapping[str, Any]) -> None:
    print(f"{output}: {metrics['num_steps']} steps, loss {metrics['loss']:.3f}")
    for what, name in (("held-out text", ""), ("of the old language", "replay_")):
        before, after = (
            metrics.get(f"{name}heldout_bits_per_character_{when}") for when in ("before", "after")
        )
        if before is not None:
            print(f"{what}: {before:.3f} bits per character before, {after:.3f} after")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
