"""Commands on the released models of the reference project: models, verify-download."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hanpaca.cli.display import print_table
from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.steps import models as released


def models(
    name: Annotated[
        str | None, typer.Argument(help="A released model, to show all about it.")
    ] = None,
    download: Annotated[
        Path | None,
        typer.Option(help="Download its adapter from the Hugging Face hub into this new folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """List the Chinese-LLaMA and Chinese-Alpaca models, what each is rebuilt from, and how."""
    chosen = released.models(name)
    if download is not None:
        _download(chosen, download)
    elif as_json:
        trees = [asdict(one) | {"chain": one.chain} for one in chosen]
        print(json.dumps(trees[0] if name else trees, ensure_ascii=False, indent=2))
    elif name:
        _show(chosen[0])
    else:
        print_table(
            ("model", "rebuilt from, in this order", "vocabulary", "r/alpha", "template"),
            [
                (
                    one.name,
                    " + ".join([one.base.name, *one.chain]),
                    f"{one.vocab_size:,}",
                    f"{one.rank}/{one.alpha}",
                    "Alpaca" if one.template else "none",
                )
                for one in chosen
            ],
        )


def verify_download(
    folder: Annotated[Path, typer.Argument(help="Folder of a downloaded or merged model.")],
    name: Annotated[
        str | None, typer.Option("--model", help="What it should be; else found by the hashes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check a downloaded folder against the SHA-256 list the project published."""
    verified = released.verify_download(folder, name)
    checked, faults = verified.files, verified.faults
    if as_json:
        print(json.dumps({"files": [asdict(one) for one in checked], "faults": faults}, indent=2))
    else:
        for one in checked:
            print(f"{one.file}  {one.sha256}  {_owners(one.found)}")
    if faults:
        raise ArtifactError(f"{folder}: " + "; ".join(faults))


def _owners(found: tuple[str, ...]) -> str:
    if not found:
        return "UNKNOWN"
    return found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more models'"


def _show(release: released.Release) -> None:
    print(f"{release.name}  ({release.hub})")
    print(f"  rebuilt from  {' + '.join([release.base.name, *release.chain])}, in this order")
    print(f"  vocabulary    {release.vocab_size:,}; rank {release.rank}, alpha {release.alpha}")
    print(f"  template      {release.template!r}" if release.template else "  template      none")
    print(f"  adapter       {release.adapter_sha256}")
    print(f"  tokenizer     {release.tokenizer_sha256}")
    for number, sha256 in enumerate(release.merged_pth):
        print(f"  merged {number:02d}     {sha256}")
    for one in release.chain:
        print(f"  hanpaca models {one} --download {one}")
    print(f"  {released.merge_command(release)}")


def _download(chosen: list[released.Release], folder: Path) -> None:
    if len(chosen) != 1:
        raise RecipeError("--download: say which model, such as hanpaca models chinese-alpaca-7b")
    checked = released.download(chosen[0].name, folder)
    print(f"{folder}: {len(checked)} files with the hashes that were published")
