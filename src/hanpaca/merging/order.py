"""The released models: is this one of them, and is it merged as they are rebuilt?

A published hash proves it, so that a wrong order is a fault; sizes alone suggest it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hanpaca.checkpoints import released
from hanpaca.checkpoints.adapter import AdapterFiles
from hanpaca.checkpoints.released import Release
from hanpaca.files import describe_file
from hanpaca.merging.findings import Findings


@dataclass(frozen=True)
class Identity:
    """Which released adapter one is, or may be."""

    releases: tuple[Release, ...]
    certain: bool

    @property
    def names(self) -> str:
        """For messages."""
        return " or ".join(one.name for one in self.releases)


def check_order(
    vocab_rows: int, adapters: Sequence[AdapterFiles], found: Findings, *, read_content: bool
) -> None:
    """Compare with how the released models are rebuilt.

    Args:
        vocab_rows: Of the base.
        adapters: In order.
        found: Gets what is wrong or looks so.
        read_content: Whether an adapter may be hashed.
    """
    before: Identity | None = None
    for adapter in adapters:
        identity = _identity(adapter, read_content)
        problem = _problem(identity, before, vocab_rows) if identity.releases else ""
        if problem and identity.certain:
            found.wrong(f"{adapter.path}: this adapter, {identity.names}, {problem}")
        elif problem:
            found.warnings.append(
                f"{adapter.path}: by its sizes this adapter may be {identity.names}; that one "
                f"{problem}"
            )
        before = identity


def _identity(adapter: AdapterFiles, read_content: bool) -> Identity:
    if read_content and adapter.file.name == "adapter_model.bin":
        content = describe_file(adapter.file, name=adapter.file.name)
        if release := released.release_of_adapter(content.sha256):
            return Identity((release,), certain=True)
    similar = released.lookalikes(
        hidden_size=adapter.hidden_size, rank=adapter.rank, vocab_rows=adapter.vocab_rows
    )
    return Identity(tuple(similar), certain=False)


def _problem(identity: Identity, before: Identity | None, vocab_rows: int) -> str:
    one = identity.releases[0]
    original = vocab_rows == one.base.vocab_size
    if one.after:
        if before is None and original:
            return f"was trained on {one.after} merged; pass that adapter first"
        if before and before.releases and one.after not in {r.name for r in before.releases}:
            return (
                f"was trained on {one.after} merged, not on {before.names}; pass {one.after} first"
            )
        return ""
    if before and {r.after for r in before.releases} & {r.name for r in identity.releases}:
        return f"comes before {before.names}; pass it first"
    if before and before.releases:
        return f"was trained on {one.base.name} alone; leave out {before.names}"
    if before is None and not original:
        return (
            f"was trained on {one.base.name} with {one.base.vocab_size:,} rows; this base has "
            f"{vocab_rows:,}: give the original"
        )
    return ""
