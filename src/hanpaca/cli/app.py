"""All commands. What needs torch is imported when a command runs, so that `--help` is quick."""

import typer

from hanpaca import __version__
from hanpaca.cli import (
    ask,
    combine,
    compare,
    data,
    doctor,
    evaluate,
    extract,
    gguf,
    inspect,
    merge,
    models,
    prune,
    runs,
    serve,
    suite,
    summarise,
    tokenizer,
    watch,
    web,
)
from hanpaca.cli import (
    chat as tools,
)
from hanpaca.cli import (
    training as steps,
)
from hanpaca.cli.words import speak

app = typer.Typer(
    name="hanpaca",
    help="Teach an English-centric LLaMA-family model a new language.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _first(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    lang: str | None = typer.Option(
        None,
        help="Say tables and results in this language (its two letters); else in the locale's.",
    ),
) -> None:
    speak(lang)
    if version:
        print(__version__)
        raise typer.Exit


app.command("init")(runs.init)
app.command("run")(runs.run)
app.command("plan")(runs.plan)
app.command("status")(runs.status)
app.command("watch")(watch.watch_run)
app.command("verify")(runs.verify)
app.command("chat")(tools.chat)
app.add_typer(ask.ask)
app.command("summarise")(summarise.summarise)
app.command("web")(web.web)
app.add_typer(data.data)
app.command("serve")(serve.serve)
app.add_typer(tokenizer.tokenizer)
tokenizer.tokenizer.command("bakeoff")(steps.bakeoff)
app.command("grow")(steps.grow)
app.command("prune")(prune.prune)
app.command("pretrain")(steps.pretrain)
app.command("sft")(steps.sft)
app.command("dpo")(steps.dpo)
app.command("merge")(merge.merge)
app.command("combine")(combine.combine)
app.add_typer(gguf.gguf)
app.command("eval")(evaluate.evaluate)
app.add_typer(suite.suite)
app.command("compare")(compare.compare)
app.command("extract")(extract.extract)
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)
app.command("models")(models.models)
app.command("verify-download")(models.verify_download)
