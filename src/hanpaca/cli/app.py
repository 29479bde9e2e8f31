"""All commands. What needs torch is imported when a command runs, so that `--help` is quick."""

import typer

from hanpaca import __version__
from hanpaca.cli import (
    combine,
    extract,
    gguf,
    inspect,
    merge,
    models,
    runs,
    steps,
    tokenizer,
    tools,
)

app = typer.Typer(
    name="hanpaca",
    help="Teach an English-centric LLaMA-family model a new language.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


app.command("init")(runs.init)
app.command("run")(runs.run)
app.command("plan")(runs.plan)
app.command("status")(runs.status)
app.command("verify")(runs.verify)
app.command("chat")(tools.chat)
app.add_typer(tokenizer.tokenizer)
tokenizer.tokenizer.command("bakeoff")(steps.bakeoff)
app.command("grow")(steps.grow)
app.command("pretrain")(steps.pretrain)
app.command("sft")(steps.sft)
app.command("merge")(merge.merge)
app.command("combine")(combine.combine)
app.add_typer(gguf.gguf)
app.command("eval")(steps.evaluate)
app.command("extract")(extract.extract)
app.command("inspect")(inspect.inspect)
app.command("models")(models.models)
app.command("verify-download")(models.verify_download)
