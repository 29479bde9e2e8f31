"""A file says what its folder says: special tokens, ends of an answer and chat templates."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hanpaca.checkpoints.gguf import read_header
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder
from tests.support.llama_cpp import forced, served
from tests.support.models import write_pico_weights
from tests.support.tokenizers import make_pico_tokenizer

ADDED = ("<|begin|>", "<|end_of_text|>", "<|turn_end|>", "<|stop|>", "<|never|>")
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<|turn_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers end in three ways, and which begins every text with `<|begin|>`."""
    folder = tmp_path_factory.mktemp("whole")
    make_pico_tokenizer(folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    size = len(spec["model"]["vocab"])
    ids = {text: size + number for number, text in enumerate(ADDED)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec["added_tokens"] += [
        {"id": number, "content": text, "special": True, **flags} for text, number in ids.items()
    ]
    first = {"SpecialToken": {"id": ADDED[0], "type_id": 0}}
    known = {ADDED[0]: {"id": ADDED[0], "ids": [ids[ADDED[0]]], "tokens": [ADDED[0]]}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text],
        "special_tokens": known,
    }
    write(folder / "tokenizer.json", spec)
    named = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": "T"}]
    write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_eos_token": True,
            "chat_template": named,
        },
    )
    write(folder / "special_tokens_map.json", {"bos_token": ADDED[0], "eos_token": ADDED[1]})
    write_pico_weights(folder, size + len(ADDED), tied=True)
    write(
        folder / "generation_config.json",
        {"bos_token_id": ids[ADDED[0]], "eos_token_id": [ids[ADDED[1]], ids[ADDED[3]]]},
    )
    return folder


def write(file: Path, tree: Any) -> None:
    file.write_text(json.dumps(tree), encoding="utf-8")


def ids_of(folder: Path) -> dict[str, int]:
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    return {text: int(vocabulary[text]) for text in ADDED}


def test_llama_cpp_begins_and_ends_where_transformers_does(whole: Path, tmp_path: Path) -> None:
    folder_to_gguf(whole, tmp_path / "m.gguf", file_type="f32", metadata={})
    tokenizer, ids = AutoTokenizer.from_pretrained(whole), ids_of(whole)
    with served(tmp_path / "m.gguf") as ask:
        prompt = ask("/tokenize", {"content": "The dog", "add_special": True})["tokens"]
        assert prompt == tokenizer("The dog").input_ids
        ends = {text: forced(ask, number, prompt) for text, number in ids.items()}
        assert ends == {
            "<|begin|>": "limit",
            "<|end_of_text|>": "eos",
            "<|turn_end|>": "eos",
            "<|stop|>": "eos",
            "<|never|>": "limit",
        }
        chat = [{"role": "user", "content": "Hi"}]
        asked = ask("/apply-template", {"messages": chat})["prompt"]
        assert asked == tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )


def test_the_header_names_all_of_it(whole: Path, tmp_path: Path) -> None:
    folder_to_gguf(whole, tmp_path / "m.gguf", file_type="f16", metadata={})
    fields, ids = read_header(tmp_path / "m.gguf").fields, ids_of(whole)
    expected = {
        "tokenizer.ggml.bos_token_id": ids["<|begin|>"],
        "tokenizer.ggml.eos_token_id": ids["<|end_of_text|>"],
        "tokenizer.ggml.eot_token_id": ids["<|turn_end|>"],
        "tokenizer.ggml.eom_token_id": ids["<|stop|>"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_templates": ["tool_use"],
    }
    assert {key: fields.get(key) for key in expected} == expected


def test_it_comes_back_into_a_folder(whole: Path, tmp_path: Path) -> None:
    folder_to_gguf(whole, tmp_path / "m.gguf", file_type="f16", metadata={})
    gguf_to_folder(tmp_path / "m.gguf", tmp_path / "back")
    ids = ids_of(whole)
    generation = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [
        ids[text] for text in ("<|end_of_text|>", "<|turn_end|>", "<|stop|>")
    ]
    before, after = (AutoTokenizer.from_pretrained(one) for one in (whole, tmp_path / "back"))
    assert after.chat_template == before.chat_template
    folder_to_gguf(tmp_path / "back", tmp_path / "again.gguf", file_type="f16", metadata={})
    first, second = (read_header(tmp_path / f"{one}.gguf").fields for one in ("m", "again"))
    assert {k: v for k, v in first.items() if k.startswith("tokenizer.")} == {
        k: v for k, v in second.items() if k.startswith("tokenizer.")
    }


def test_a_tokenizer_that_names_no_end_is_told(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for name in ("generation_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", {**config, "eos_token_id": None})
    summary = folder_to_gguf(folder, tmp_path / "m.gguf", file_type="f16", metadata={})
    assert any("no file names a token that ends a text" in note for note in summary.notes)
