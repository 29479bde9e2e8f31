"""What must be known of made data, as a page that lies beside it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from hanpaca.data.generating.settings import GenerateSettings


@dataclass(frozen=True)
class Making:
    """Where rows came from, and how many went."""

    url: str
    model: str
    settings: GenerateSettings
    num_rows: int
    num_made: int
    """Rows that were judged."""
    dropped: Mapping[str, int]
    num_calls: int
    num_tokens: tuple[int, int]
    """Of prompts and of replies."""
    cost: float
    evaluation: tuple[str, ...]
    """Files whose texts are not in it."""
    materials: tuple[str, ...]
    """Documents or instructions that it was made from."""
    example: Mapping[str, object] | None


def without_secrets(url: str) -> str:
    """An address without user, password, query and fragment, where keys stand too.

    >>> without_secrets("https://me:secret@host:8/v1?key=abc")
    'https://host:8/v1'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def card(made: Making) -> str:
    """The page, in Markdown with the metadata that dataset hubs read."""
    settings = made.settings
    table = "".join(f"| {reason} | {number:,} |\n" for reason, number in made.dropped.items())
    example = json.dumps(made.example, ensure_ascii=False, indent=2) if made.example else ""
    evaluation = ", ".join(f"`{one}`" for one in made.evaluation)
    leaks = (
        f"No row shares {settings.leak_units} units in a row with {evaluation}."
        if evaluation
        else "Not compared with any evaluation file."
    )
    (read, written), cost = made.num_tokens, f"{made.cost:.4f}"
    asked = json.dumps(settings.asked_by, ensure_ascii=False)
    from_what = "".join(f"- made from `{one}`\n" for one in made.materials)
    return f"""---
language: [{settings.language}]
task_categories: [text-generation]
tags: [synthetic, instructions]
---
# {made.num_rows:,} instructions with answers, written by {made.model}

Nobody has read them all: the model is as wrong here as anywhere.

- endpoint `{without_secrets(made.url)}`, model `{made.model}`; **the terms of its provider hold for
  what is done with them**, training other models included
{from_what}- {made.num_calls:,} calls, {read:,} tokens read, {written:,} written, cost {cost}
- settings `{asked}`

`rows.jsonl` has one row a line: `messages` as OpenAI's API has them, and under `provenance` the
model, what the row was drawn from, and the hashes of its calls in `calls.jsonl`.

## What was left out

{made.num_made:,} were made. {leaks}

| reason | rows |
|---|---|
{table}
## An example

```json
{example}
```
"""
