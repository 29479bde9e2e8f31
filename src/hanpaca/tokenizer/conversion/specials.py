"""Which tokens begin, end and fill a text: from all the files that say so to ids for GGUF."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.chat_templates import DEFAULT, NAMED_FOLDER, end_of_turn
from hanpaca.tokenizer.settings import ROLES, Settings
from hanpaca.tokenizer.template_limits import check_ends

KNOWN_ENDS = frozenset(
    {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
    }
)
"""Tokens that llama.cpp takes for an end by their text (`llama_vocab::impl::load`)."""
_END_OF_MESSAGE = "<|eom_id|>"
NUM_MORE_ENDS = 2
"""Beside EOS a file names the ends of a turn (`eot`) and of a message (`eom`), no more."""
_DEFAULT_EOS = {"gpt2": 11, "llama": 2}
"""What llama.cpp takes for EOS by family where a file does not say."""


@dataclass(frozen=True)
class Specials:
    """Special tokens as a GGUF file names them."""

    roles: Mapping[str, int]
    """Ids by role."""
    ends: tuple[int, ...]
    """Further tokens that end an answer; at most `NUM_MORE_ENDS`."""
    templates: Mapping[str, str]
    """Chat templates by the name they get in the file."""
    notes: tuple[str, ...]
    """What the file does not say, or says otherwise than the folder; to be told."""


def find_specials(
    settings: Settings,
    tokens: Sequence[str],
    marked: Mapping[str, int],
    *,
    folder: Path,
    family: str,
    names: Mapping[str, str] | None = None,
) -> Specials:
    """Find special tokens where transformers finds them.

    Args:
        settings: What the folder's files say.
        tokens: Text of every row.
        marked: Ids of the tokens that a text is never cut through, by text.
        folder: For messages.
        family: As GGUF calls the kind of vocabulary: "gpt2" or "llama".
        names: The vocabulary's own names for roles, where the folder has none.

    Raises:
        ArtifactError: An id has no row.
    """
    _check_ids(settings, len(tokens), folder)
    ids = {text: number for number, text in enumerate(tokens)}
    roles = {}
    for role in ROLES:
        texts = (*settings.names[role], (names or {}).get(role))
        found = [ids[text] for text in texts if text in ids] + [*settings.ids.get(role, ())]
        if found:
            roles[role] = found[0]
    templates, notes = _templates(settings, folder)
    ends = _ends(settings, tokens, marked, roles)
    notes += _notes(settings, tokens, roles, folder=folder, family=family)
    notes += _lost_ends(settings, tokens, marked, ends)
    return Specials(roles, tuple(ends[:NUM_MORE_ENDS]), templates, tuple(notes))


def _check_ids(settings: Settings, num_rows: int, folder: Path) -> None:
    for role, listed in settings.ids.items():
        for number in listed:
            if number >= num_rows:
                raise ArtifactError(
                    f"{folder}: {role}_token_id is {number} in generation_config.json or "
                    f"config.json, but the model has {num_rows} rows"
                )


def _ends(
    settings: Settings,
    tokens: Sequence[str],
    marked: Mapping[str, int],
    roles: Mapping[str, int],
) -> list[int]:
    """Ids that end an answer beside EOS, the more needed first; see `_lost_ends` for the rest."""
    known = set(marked.values())
    found = [number for number in settings.ids.get("eos", ()) if number in known]
    check_ends(settings.templates.values(), "this model")
    if template := settings.templates.get(DEFAULT):
        named = {role: tokens[number] for role, number in roles.items()}
        last = end_of_turn(template, marked, named)
        found = [marked[last], *found] if last else found
    found = [number for number in dict.fromkeys(found) if number != roles.get("eos")]
    return sorted(found, key=lambda n: (tokens[n] in KNOWN_ENDS) + (tokens[n] == _END_OF_MESSAGE))


def _lost_ends(
    settings: Settings, tokens: Sequence[str], marked: Mapping[str, int], ends: Sequence[int]
) -> list[str]:
    """Ends of transformers that the file does not name.

    A piece of ordinary text is not taken for an end: configurations made anew say 2, whatever the
    tokenizer has there.
    """
    lost = [tokens[n] for n in ends[NUM_MORE_ENDS:] if tokens[n] not in KNOWN_ENDS]
    known = set(marked.values())
    plain = [n for n in settings.ids.get("eos", ()) if n not in known]
    notes = [
        f"eos_token_id {n} is {tokens[n]!r:.40}, a piece of ordinary text: transformers ends an "
        "answer there, and should not"
        for n in plain
    ]
    if lost:
        notes.append(
            f"{', '.join(map(repr, lost))} also end an answer in transformers; a GGUF file has "
            f"places for {1 + NUM_MORE_ENDS} ends, and llama.cpp goes on there"
        )
    return notes


def _templates(settings: Settings, folder: Path) -> tuple[dict[str, str], list[str]]:
    """By names that are safe in a key, as llama.cpp's own converter makes them."""
    found: dict[str, str] = {}
    for name, template in settings.templates.items():
        safe = re.sub(r"[^A-Za-z0-9]", "_", name)
        if safe in found:
            raise ArtifactError(
                f"{folder}: two chat templates have the name {safe!r:.40} in a GGUF file; rename "
                f"one of them ({NAMED_FOLDER}, or chat_template in tokenizer_config.json)"
            )
        found[safe] = template
    if found and DEFAULT not in found:
        told = f"none of its chat templates ({', '.join(found)}) is the default: "
        return found, [told + "where none is asked for, llama.cpp takes ChatML"]
    return found, []


def _notes(
    settings: Settings,
    tokens: Sequence[str],
    roles: Mapping[str, int],
    *,
    folder: Path,
    family: str,
) -> list[str]:
    """Where llama.cpp begins or ends a text in another way than transformers."""
    texts = {role: tokens[number] for role, number in roles.items()}
    notes = []
    if "eos" not in roles:
        number = min(_DEFAULT_EOS[family], len(tokens) - 1)
        notes.append(
            "no file names a token that ends a text (eos_token, eos_token_id): llama.cpp takes "
            f"token {number}, {tokens[number]!r:.40}, and stops there"
        )
    first = settings.around.get("bos")
    if first and texts.get("bos") != first:
        notes.append(
            f"tokenizer.json puts {first!r:.40} before a text, llama.cpp the bos_token: "
            f"{texts.get('bos')!r:.40}"
        )
    if settings.adds.get("bos") and not first and (folder / "tokenizer.json").exists():
        notes.append(
            "add_bos_token puts a token before a text in llama.cpp, but transformers 5 goes by the "
            "post_processor of tokenizer.json alone, which has none"
        )
    if settings.adds.get("eos") and "eos" in roles:
        notes.append(
            f"the tokenizer puts {texts['eos']!r:.40} after a text; the file tells llama.cpp not "
            "to, as it would end every prompt"
        )
    return notes
