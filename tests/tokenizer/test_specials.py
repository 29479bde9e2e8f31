"""Which tokens begin and end a text: as transformers finds them, from every file that says so."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from hanpaca.errors import ArtifactError
from hanpaca.tokenizer.conversion.gguf import Vocabulary, read_vocabulary
from hanpaca.tokenizer.conversion.specials import KNOWN_ENDS
from tests.support.tokenizers import make_pico_tokenizer

ADDED = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|turn_end|>", "<|eom_id|>")
ROWS = 410
TURNS = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + END }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer with marks like Llama 3's, and no word on what they are for."""
    make_pico_tokenizer(tmp_path)
    spec = load(tmp_path / "tokenizer.json")
    size = len(spec["model"]["vocab"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec["added_tokens"] += [
        {"id": size + number, "content": text, "special": True, **flags}
        for number, text in enumerate(ADDED)
    ]
    write(tmp_path / "tokenizer.json", spec)
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    write(tmp_path / "config.json", {"model_type": "llama"})
    return tmp_path


def load(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def write(file: Path, tree: object) -> None:
    file.write_text(json.dumps(tree), encoding="utf-8")


def change(file: Path, **changes: object) -> None:
    write(file, {**(load(file) if file.exists() else {}), **changes})


def id_of(folder: Path, text: str) -> int:
    return read_vocabulary(folder, ROWS).tokens.index(text)


def decoder(folder: Path) -> dict[str, Any]:
    """As transformers lists added tokens in `tokenizer_config.json`."""
    tokens = load(folder / "tokenizer.json")["added_tokens"]
    return {str(one["id"]): {k: v for k, v in one.items() if k != "id"} for one in tokens}


CLASSES = ("PreTrainedTokenizerFast", "GPT2TokenizerFast", "Qwen2Tokenizer", None)
SAID: tuple[object, ...] = ("absent", None, "<|eot_id|>", {"content": "<|end_of_text|>"})
TYPED = {"__type": "AddedToken"}
"""`tokenizer_config.json` says it of tokens; `special_tokens_map.json` does not."""


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(("kind", "in_config"), product(CLASSES, SAID))
def test_names_are_found_in_the_order_of_transformers(
    kind: str | None, in_config: object, listed: bool, folder: Path
) -> None:
    for in_map in SAID:
        config: dict[str, Any] = {"tokenizer_class": kind} if kind else {}
        if listed:
            config["added_tokens_decoder"] = decoder(folder)
        token = {**TYPED, **in_config} if isinstance(in_config, dict) else in_config
        said = {"eos_token": token, "bos_token": token}
        config |= {} if in_config == "absent" else said
        write(folder / "tokenizer_config.json", config)
        others = {} if in_map == "absent" else {"eos_token": in_map, "pad_token": in_map}
        write(folder / "special_tokens_map.json", others)
        theirs = AutoTokenizer.from_pretrained(folder)
        ours = read_vocabulary(folder, ROWS)
        for role in ("bos", "eos", "unk", "pad"):
            expected = getattr(theirs, f"{role}_token")
            if expected is not None:
                assert ours.tokens[ours.special[role]] == expected, (role, in_map)


IDS = ("absent", None, 396, [396, 397], [397, 396, 394])
"""Of `ADDED`, which are not all known to llama.cpp."""


@pytest.mark.parametrize(("generation", "model"), product(IDS, IDS))
def test_ends_are_those_of_transformers(generation: object, model: object, folder: Path) -> None:
    change(folder / "tokenizer_config.json", eos_token="<|end_of_text|>")
    change(folder / "config.json", **({} if model == "absent" else {"eos_token_id": model}))
    if generation != "absent":
        write(folder / "generation_config.json", {"eos_token_id": generation})
    vocabulary = read_vocabulary(folder, ROWS)
    if generation == "absent":
        theirs: object = load(folder / "config.json").get("eos_token_id")
    else:
        theirs = GenerationConfig.from_pretrained(folder).eos_token_id
    listed = [theirs] if isinstance(theirs, int) else theirs or []
    ours = {vocabulary.special["eos"], *vocabulary.ends}
    assert isinstance(listed, list)
    lost = set(listed) - ours
    assert len(lost) == max(0, len(listed) - 2)
    told = " ".join(vocabulary.differences)
    assert all(vocabulary.tokens[one] in (*KNOWN_ENDS, *told.split("'")) for one in lost)


def test_ordinary_text_is_no_end(folder: Path) -> None:
    """A configuration made anew says 2, whatever that is."""
    change(folder / "tokenizer_config.json", eos_token="<|end_of_text|>")
    write(folder / "generation_config.json", {"eos_token_id": 5})
    vocabulary = read_vocabulary(folder, ROWS)
    assert vocabulary.ends == ()
    assert "eos_token_id 5 is '#', a piece of ordinary text" in vocabulary.differences[0]


def test_ids_stand_in_for_names(folder: Path) -> None:
    begin, end, turn = (id_of(folder, text) for text in ADDED[:3])
    write(folder / "config.json", {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": -1})
    vocabulary = read_vocabulary(folder, ROWS)
    assert vocabulary.special == {"bos": begin, "eos": end}
    assert (vocabulary.ends, vocabulary.differences) == ((), ())
    write(folder / "generation_config.json", {"eos_token_id": [turn, end]})
    vocabulary = read_vocabulary(folder, ROWS)
    assert (vocabulary.special["eos"], vocabulary.ends) == (turn, (end,))


def test_a_token_put_before_a_text_is_its_beginning(folder: Path) -> None:
    spec = load(folder / "tokenizer.json")
    first = {"SpecialToken": {"id": ADDED[0], "type_id": 0}}
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {
            ADDED[0]: {"id": ADDED[0], "ids": [id_of(folder, ADDED[0])], "tokens": [ADDED[0]]}
        },
    }
    write(folder / "tokenizer.json", spec)
    vocabulary = read_vocabulary(folder, ROWS)
    assert vocabulary.add_bos
    assert vocabulary.tokens[vocabulary.special["bos"]] == ADDED[0]
    change(folder / "tokenizer_config.json", bos_token="<|eot_id|>", add_bos_token=False)
    vocabulary = read_vocabulary(folder, ROWS)
    assert AutoTokenizer.from_pretrained(folder)("a").input_ids[0] == id_of(folder, ADDED[0])
    assert any("puts '<|begin_of_text|>' before" in note for note in vocabulary.differences)


def test_without_an_end_it_is_told_what_llama_cpp_takes(folder: Path) -> None:
    (told,) = read_vocabulary(folder, ROWS).differences
    assert "no file names a token that ends a text" in told
    assert "token 11, ')'" in told


@pytest.mark.parametrize("value", [10**20, "x", -5, True, 1.5, [7, "x"], [[7]], {"id": 7}])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_what_is_no_id_is_refused_by_name(value: object, file: str, folder: Path) -> None:
    change(folder / file, eos_token_id=value)
    with pytest.raises(ArtifactError, match=rf"{file}: eos_token_id is .*should be the id"):
        read_vocabulary(folder, ROWS)


def test_an_id_without_a_row_is_refused(folder: Path) -> None:
    change(folder / "config.json", bos_token_id=ROWS)
    with pytest.raises(ArtifactError, match=r"bos_token_id is 410 .* has 410 rows"):
        read_vocabulary(folder, ROWS)


def test_eos_is_never_added_to_prompts(folder: Path) -> None:
    change(
        folder / "tokenizer_config.json", bos_token=ADDED[0], eos_token=ADDED[1], add_eos_token=True
    )
    vocabulary = read_vocabulary(folder, ROWS)
    assert not vocabulary.add_eos
    assert any("not to, as it would end every prompt" in one for one in vocabulary.differences)


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (TURNS.replace("END", "'<|turn_end|>'"), "<|turn_end|>"),
        (TURNS.replace("END", "'\n<|eom_id|><|turn_end|>'"), "<|eom_id|>"),
        (TURNS.replace("END", "eos_token"), None),
        (TURNS.replace("END", "'###'"), None),
        ("{{ raise_exception('only tools') }}", None),
        ("{{ 1 / 0 }}", None),
        ("{{ messages[7].content.x }}", None),
        ("{% if %}", None),
        ("<|turn_end|>", None),
    ],
)
def test_the_end_of_a_templates_turn_is_an_end(
    template: str, end: str | None, folder: Path
) -> None:
    change(folder / "tokenizer_config.json", eos_token=ADDED[1], chat_template=template)
    vocabulary = read_vocabulary(folder, ROWS)
    assert [vocabulary.tokens[one] for one in vocabulary.ends] == ([end] if end else [])


NAMED = [{"name": "default", "template": "A"}, {"name": "tool-use", "template": "B"}]


def templates_of(vocabulary: Vocabulary) -> dict[str, str]:
    default = {"default": vocabulary.chat_template} if vocabulary.chat_template else {}
    return {**default, **vocabulary.named_templates}


@pytest.mark.parametrize("files", product([False, True], repeat=3))
@pytest.mark.parametrize("setting", [None, "S", NAMED, []])
def test_templates_are_those_of_transformers(
    setting: object, files: tuple[bool, bool, bool], folder: Path
) -> None:
    change(folder / "tokenizer_config.json", chat_template=setting, eos_token=ADDED[1])
    has_file, has_default, has_named = files
    if has_file:
        (folder / "chat_template.jinja").write_text("F\n{{ 中 }}", encoding="utf-8")
    named = folder / "additional_chat_templates"
    for name, wanted in (("default", has_default), ("rag", has_named)):
        if wanted:
            named.mkdir(exist_ok=True)
            (named / f"{name}.jinja").write_text(name)
    theirs = AutoTokenizer.from_pretrained(folder).chat_template
    listed = theirs if isinstance(theirs, dict) else {"default": theirs} if theirs else {}
    vocabulary = read_vocabulary(folder, ROWS)
    assert templates_of(vocabulary) == {n.replace("-", "_"): text for n, text in listed.items()}
    if listed and "default" not in listed:
        assert "the default" in vocabulary.differences[0]


def test_a_processors_template_is_the_last_to_be_asked(folder: Path) -> None:
    write(folder / "chat_template.json", {"chat_template": "P"})
    assert read_vocabulary(folder, ROWS).chat_template == "P"
    change(folder / "tokenizer_config.json", chat_template="S")
    assert read_vocabulary(folder, ROWS).chat_template == "S"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"default": "x"}, "is of type dict, but should be a text"),
        (7, "is of type int"),
        (["x"], "has the entry 'x'"),
        ([{"name": "default"}], "each should have a name and a template"),
        ([{"name": "a-b", "template": "1"}, {"name": "a_b", "template": "2"}], "the name 'a_b'"),
    ],
)
def test_a_template_of_a_wrong_kind_is_named(value: object, message: str, folder: Path) -> None:
    change(folder / "tokenizer_config.json", chat_template=value)
    with pytest.raises(ArtifactError, match=message):
        read_vocabulary(folder, ROWS)
