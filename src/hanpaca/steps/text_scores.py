"""Bits and tokens per character of a model on texts; what is known is not computed again."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hanpaca.checkpoints.fingerprint import model_fingerprint, tokenizer_fingerprint
from hanpaca.evals.bits import TextScore, score_texts
from hanpaca.files import describe_file, digest_of, parse_json, read_bytes, write_atomically
from hanpaca.memory import with_growth
from hanpaca.model.load import load_model, load_tokenizer, start_token
from hanpaca.model.score import negative_log_likelihoods

_VERSION = 1
"""Of what is computed for the same model and texts."""
_KEY_DIGITS = 32


def score_folder(folder: Path, texts: Sequence[str], *, scripts: Sequence[str]) -> TextScore:
    """Bits and tokens per character of one model on texts; see `hanpaca.evals.bits`."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    return score_texts(
        texts,
        encode=encode,
        negative_log_likelihoods=partial(negative_log_likelihoods, model),
        start_token=start_token(tokenizer),
        scripts=scripts,
    )


def known_score(
    folder: Path,
    texts: Sequence[str],
    *,
    scripts: Sequence[str],
    cache: Path | None,
    file: Path | None = None,
) -> tuple[TextScore, int | None]:
    """As `score_folder`, with the memory it took where the system tells.

    Args:
        folder: Of the model.
        texts: None may be empty.
        scripts: Of the part that tokens per character are counted in.
        cache: Folder of what is known, by the content of model and texts; None for none.
        file: That the folder's weights were read back from, if it was one.
    """
    if cache is None:
        return with_growth(lambda: score_folder(folder, texts, scripts=scripts))
    given = [_VERSION, _content(folder, file), list(texts), list(scripts)]
    kept_in = cache / f"{digest_of(given)[:_KEY_DIGITS]}.json"
    if not kept_in.is_file():
        score, memory = with_growth(lambda: score_folder(folder, texts, scripts=scripts))
        kept_in.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept_in, json.dumps({"score": asdict(score), "memory": memory}))
        return score, memory
    kept = parse_json(read_bytes(kept_in), str(kept_in))
    tree = kept["score"]
    lists = {key: tuple(tree[key]) for key in ("per_text_bits", "per_text_characters")}
    return TextScore(**{**tree, **lists}), kept["memory"]


def _content(folder: Path, file: Path | None) -> list[str]:
    if file:
        return [describe_file(file, name="").sha256]
    return [model_fingerprint(folder), tokenizer_fingerprint(folder)]
