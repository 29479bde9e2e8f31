"""The models the Chinese-LLaMA-Alpaca project released: what each is rebuilt from, and its hashes.

The facts are data, in `catalogue.yaml`; here they get types and questions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hanpaca.errors import ArtifactError, RecipeError

ALPACA_TEMPLATE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response: "
)
"""What the Alpaca models were trained on, byte for byte; an input follows the instruction after a
line break. The LLaMA models continue text and have no template."""


_HEAD_SIZE = 128
"""Of every LLaMA: Touvron et al. 2023 (arXiv 2302.13971), table 2."""


@dataclass(frozen=True)
class Base:
    """An original LLaMA."""

    name: str
    hidden_size: int
    num_layers: int
    intermediate_size: int
    vocab_size: int
    pth: tuple[str, ...]
    """SHA-256 of `consolidated.00.pth` and up."""
    bin: tuple[str, ...]
    """SHA-256 of `pytorch_model-00001-of-….bin` and up."""


@dataclass(frozen=True)
class Release:
    """A released adapter and the model that it makes."""

    name: str
    hub: str
    base: Base
    after: str | None
    """The adapter that is merged into the base before this one."""
    rank: int
    alpha: int
    vocab_size: int
    template: str | None
    adapter_sha256: str
    tokenizer_sha256: str
    merged_pth: tuple[str, ...]
    """SHA-256 of the merged `consolidated.00.pth` and up; empty where none was published."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The adapters to merge into the base, in order."""
        return (*([self.after] if self.after else []), self.name)


@cache
def releases() -> Mapping[str, Release]:
    """Every released model, by name."""
    tree = _tree()
    return {name: _release(name, entry, tree) for name, entry in tree["models"].items()}


@cache
def bases() -> Mapping[str, Base]:
    """Every original LLaMA the releases are rebuilt from, by name."""
    return {name: _base(name, entry) for name, entry in _tree()["bases"].items()}


def find_release(name: str) -> Release:
    """Find a release by name or hub id; capitals do not matter.

    Raises:
        RecipeError: There is none of this name.
    """
    wanted = name.lower().rsplit("/", 1)[-1]
    for release in releases().values():
        if wanted in (release.name, release.hub.rsplit("/", 1)[-1]):
            return release
    close = get_close_matches(wanted, releases(), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise RecipeError(f"{name}: no released model of this name{hint} (hanpaca models lists them)")


def release_of_adapter(sha256: str) -> Release | None:
    """The release whose `adapter_model.bin` has this hash."""
    return next((one for one in releases().values() if one.adapter_sha256 == sha256), None)


def releases_of_tokenizer(sha256: str) -> list[Release]:
    """The releases whose `tokenizer.model` has this hash."""
    return [one for one in releases().values() if one.tokenizer_sha256 == sha256]


def lookalikes(
    *, hidden_size: int | None, rank: int | None, vocab_rows: int | None
) -> list[Release]:
    """The releases that an adapter of these sizes may be."""
    sizes = (hidden_size, rank, vocab_rows)
    return [
        one
        for one in releases().values()
        if (one.base.hidden_size, one.rank, one.vocab_size) == sizes
    ]


def base_of_shape(hidden_size: int, num_layers: int, vocab_rows: int) -> Base | None:
    """The original LLaMA of this shape."""
    sizes = (hidden_size, num_layers, vocab_rows)
    return next(
        (
            one
            for one in bases().values()
            if (one.hidden_size, one.num_layers, one.vocab_size) == sizes
        ),
        None,
    )


def known_config(name: str) -> dict[str, Any] | None:
    """The sizes of a model that need not be at hand, as `config.json` has them.

    Args:
        name: Of `bases()`, `releases()` or the catalogue's `shapes`; `-merged` after it means the
            same.

    >>> known_config("chinese-llama-7b-merged")["vocab_size"], known_config("gpt-2")
    (49953, None)
    """
    name = name.removesuffix("-merged")
    release = releases().get(name)
    base = release.base if release else bases().get(name)
    if base is None:
        shape: dict[str, Any] | None = _tree()["shapes"].get(name)
        return shape
    return {
        "vocab_size": release.vocab_size if release else base.vocab_size,
        "hidden_size": base.hidden_size,
        "intermediate_size": base.intermediate_size,
        "num_hidden_layers": base.num_layers,
        "num_attention_heads": base.hidden_size // _HEAD_SIZE,
    }


def merge_command(release: Release) -> str:
    """The command that rebuilds a released model, where its base and adapters lie by name."""
    chosen = f"--base {release.base.name} --release {release.name}"
    return f"hanpaca merge {chosen} --output {release.name}-merged"


def locate_chain(release: Release, folder: Path) -> list[Path]:
    """Find the adapters a released model is rebuilt from, in folders of their names.

    Raises:
        ArtifactError: One is not there; says how to download it.
    """
    places = [folder / name for name in release.chain]
    for place in places:
        if not place.is_dir():
            raise ArtifactError(
                f"{place}: no such folder; {release.name} is rebuilt from "
                f"{' + '.join([release.base.name, *release.chain])}: "
                f"hanpaca models {place.name} --download {place}"
            )
    return places


@cache
def _tree() -> Mapping[str, Any]:
    text = files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8")
    tree: Mapping[str, Any] = yaml.safe_load(text)
    return tree


def _base(name: str, entry: Mapping[str, Any]) -> Base:
    hashes = {kind: tuple(entry[kind]) for kind in ("pth", "bin")}
    return Base(name, **{**entry, **hashes})


def _release(name: str, entry: Mapping[str, Any], tree: Mapping[str, Any]) -> Release:
    tokenizer = tree["tokenizers"][entry["tokenizer"]]
    return Release(
        name=name,
        hub=entry["hub"],
        base=bases()[entry["base"]],
        after=entry.get("after"),
        rank=entry["rank"],
        alpha=entry["alpha"],
        vocab_size=tokenizer["vocab_size"],
        template=ALPACA_TEMPLATE if entry["tokenizer"] == "alpaca" else None,
        adapter_sha256=entry["adapter"],
        tokenizer_sha256=tokenizer["sha256"],
        merged_pth=tuple(entry.get("merged_pth", ())),
    )
