"""Chat templates that do not end are named before llama.cpp, which cannot be stopped, has them."""

import json
from pathlib import Path

import gguf
import pytest

from hanpaca.data.named_templates import ALPACA, CHATML
from hanpaca.errors import ArtifactError
from hanpaca.inference.engine import ChatModel
from hanpaca.inference.server import Serving, engine
from hanpaca.steps.write_gguf import folder_to_gguf
from hanpaca.tokenizer.template_limits import check_ends

LONG = "{% for i in range(100000000) %}{% endfor %}"
NESTED = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
DOUBLING = (
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
)
NO_END = r"{}: its chat template does not end within two seconds and a gigabyte"


@pytest.mark.slow
@pytest.mark.parametrize("template", [LONG, NESTED, DOUBLING, "{{ 'a' * 10000000000 }}"])
def test_a_template_without_an_end_is_refused(template: str) -> None:
    with pytest.raises(ArtifactError, match=NO_END.format(r"m\.gguf")):
        check_ends([CHATML, template], "m.gguf")


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        ALPACA,
        "{% generation %}{{ messages[0].content }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{% endfor %}",
        "{{ raise_exception('no system prompt') }}",
        "{{ messages[9].content.strip() }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% broken",
    ],
)
def test_what_ends_or_breaks_is_not_judged(template: str) -> None:
    check_ends([template], "m.gguf")


def with_template(file: Path, output: Path, template: str) -> Path:
    """The same model with another template."""
    reader = gguf.GGUFReader(file)
    field = reader.fields["tokenizer.chat_template"]
    old = bytes(field.parts[field.data[0]])
    assert len(template.encode()) <= len(old)
    output.write_bytes(file.read_bytes().replace(old, template.encode().ljust(len(old))))
    return output


def test_a_file_is_refused_before_it_is_loaded(scripted_gguf: Path, tmp_path: Path) -> None:
    file = with_template(scripted_gguf, tmp_path / "long.gguf", LONG)
    with pytest.raises(ArtifactError, match=NO_END.format(r"long\.gguf")):
        ChatModel(file, num_threads=1)
    with (
        pytest.raises(ArtifactError, match=NO_END.format(r"long\.gguf")),
        engine(file, Serving(num_threads=1)),
    ):
        pass
    with ChatModel(file, num_threads=1, chat_template=CHATML):
        pass


def test_no_file_is_written_with_one(pico_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in pico_base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["chat_template"] = LONG
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(ArtifactError, match=NO_END.format("this model")):
        folder_to_gguf(folder, tmp_path / "long.gguf", file_type="f16", metadata={})
    assert not (tmp_path / "long.gguf").exists()
