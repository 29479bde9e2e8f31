"""What a request gets that does not say otherwise: the model's own ends and penalty."""

from pathlib import Path
from typing import Any

import pytest

from hanpaca.steps.serve import Service, opened
from tests.support.scripted import END, scripted_model

pytest.importorskip("starlette")
TURNS = [{"role": "user", "content": "问"}]


def asked(model: Path, template: str | None = None, **body: Any) -> dict[str, Any]:
    """What the engine is asked for a request."""
    service = Service(template=template, threads=1, context_tokens=64, num_parallel=1)
    with opened(model, service) as front:
        return front.request("/chat/completions", {"messages": TURNS, **body}).body


def test_a_template_with_instructions_ends_before_the_next_one(scripted_gguf: Path) -> None:
    ends = ["### Instruction:"]
    assert asked(scripted_gguf, "alpaca")["stop"] == ends
    assert asked(scripted_gguf, "alpaca", stop="x")["stop"] == ["x", *ends]
    assert asked(scripted_gguf, "alpaca", stop=["x", "y"])["stop"] == ["x", "y", *ends]


def test_chatml_needs_an_end_spelled_out_only_where_it_is_no_token(
    scripted_gguf: Path, tmp_path: Path
) -> None:
    assert "stop" not in asked(scripted_gguf)
    assert "stop" not in asked(scripted_gguf, "chatml")
    # The same vocabulary with another text for that token.
    other = tmp_path / "other.gguf"
    data = scripted_gguf.read_bytes()
    token = len(b"<|im_end|>").to_bytes(8, "little") + b"<|im_end|>"
    assert data.count(token) == 1
    other.write_bytes(data.replace(token, token.replace(b"im_end", b"im_hex")))
    assert asked(other, "chatml")["stop"] == ["<|im_end|>"]


def test_the_penalty_is_the_files_own_or_ours(
    scripted_gguf: Path, pico_base: Path, tmp_path: Path
) -> None:
    own = {"general.sampling.penalty_repeat": 1.2}
    file = scripted_model(pico_base, tmp_path / "own", last=END, metadata=own)
    assert "repeat_penalty" not in asked(file)
    assert asked(file, repeat_penalty=1.3)["repeat_penalty"] == 1.3
    assert asked(scripted_gguf)["repeat_penalty"] == 1.1
    assert asked(scripted_gguf, repeat_penalty=1.3)["repeat_penalty"] == 1.3
