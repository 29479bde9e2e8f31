"""`hanpaca web BASE --adapter A`: the base alone, and with the adapter folded in, as two names."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.peft_adapters import make_adapter
from tests.support.serving import Served, served

pytest.importorskip("gradio", reason="gradio is not installed (pip install 'hanpaca[web]')")


def probabilities(server: Served, model: str) -> list[float]:
    body = {"model": model, "prompt": "The quick", "max_tokens": 4, "temperature": 0, "logprobs": 1}
    reply = httpx2.post(server.url + "/v1/completions", json=body, timeout=240).json()
    assert reply["model"] == model
    tokens: list[dict[str, Any]] = reply["choices"][0]["logprobs"]["content"]
    return [one["logprob"] for one in tokens]


@pytest.mark.slow
def test_both_can_be_picked_and_asked(
    pico_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    adapter = make_adapter(pico_base, tmp_path / "zh")
    names = ["base", "base + zh"]
    with served(pico_base, "--adapter", str(adapter), command="web") as server:
        config = httpx2.get(server.url + "/config", timeout=120).json()
        (picker,) = (
            one["props"] for one in config["components"] if one["props"].get("elem_id") == "model"
        )
        assert [name for name, _ in picker["choices"]] == names
        listed = httpx2.get(server.url + "/v1/models", timeout=120).json()["data"]
        assert [one["id"] for one in listed] == names
        base, tuned = (probabilities(server, name) for name in names)
    assert base != tuned
    with served(pico_base) as alone:
        assert probabilities(alone, "base") == base
