import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hanpaca.errors import ArtifactError, DataError
from hanpaca.manifests import PRUNED, read_manifest
from hanpaca.runs.folder import verify_run
from hanpaca.runs.recipe import load_recipe
from hanpaca.runs.run import run
from hanpaca.steps.extend import extend
from hanpaca.steps.grow import grow
from hanpaca.steps.prune import prune
from hanpaca.training.begun import num_new_rows
from tests.support.in_process import say
from tests.support.models import write_pico_weights
from tests.support.texts import CHINESE, POEMS, SENTENCES

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


@pytest.fixture(params=["pico_base", "pico_untied", "pico_llama"])
def base(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def nats(folder: Path, text: str) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Logits and -log p of a text by transformers alone, and its tokens."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = model(ids).logits[0]
    surprise = -logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return logits, surprise, list(tokenizer.convert_ids_to_tokens(ids[0]))


def test_protected_text_has_the_logits_it_had_and_is_no_less_probable(
    base: Path, tmp_path: Path
) -> None:
    found = prune(base, SENTENCES[:1], tmp_path / "small")
    assert 0 < found.num_unused == found.num_before - found.num_after == len(found.dropped)
    (old, before, was), (new, after, now) = (
        nats(one, SENTENCES[0]) for one in (as_read(base, tmp_path), tmp_path / "small")
    )
    assert now == was
    assert new.shape[1] == found.num_after < old.shape[1]
    old_tokens, new_tokens = (
        AutoTokenizer.from_pretrained(one).get_vocab()
        for one in (as_read(base, tmp_path), tmp_path / "small")
    )
    kept = sorted(new_tokens, key=new_tokens.__getitem__)
    assert torch.equal(new, old[:, [old_tokens[piece] for piece in kept]])
    assert (after <= before + 1e-6).all()
    assert after.sum() < before.sum()


def as_read(base: Path, folder: Path) -> Path:
    """A base of a `tokenizer.model` alone, with the `tokenizer.json` that transformers needs."""
    if (base / "tokenizer.json").is_file():
        return base
    from hanpaca.steps.convert_tokenizer import convert_tokenizer

    if not (folder / "read").is_dir():
        convert_tokenizer(base, folder / "read")
        for name in ("config.json", "generation_config.json", "model.safetensors"):
            shutil.copyfile(base / name, folder / "read" / name)
    return folder / "read"


def test_a_swap_keeps_the_size_of_the_model_and_the_rows_of_all_that_is_protected(
    base: Path, tmp_path: Path
) -> None:
    protect = [*SENTENCES[:1], CHINESE]
    prune(base, protect, tmp_path / "small", num_pieces=9)
    extend(tmp_path / "small", [CHINESE] * 9, tmp_path / "extended", num_pieces=9)
    found = grow(tmp_path / "small", tmp_path / "extended", [CHINESE] * 9, tmp_path / "grown")
    assert found["num_old_rows"] + found["num_new_rows"] == 394 + (6 if "llama" in str(base) else 0)
    assert (tmp_path / "grown/model.safetensors").stat().st_size == pytest.approx(
        (base / "model.safetensors").stat().st_size, abs=100
    )
    _, _, was = nats(as_read(base, tmp_path), SENTENCES[0])
    assert nats(tmp_path / "grown", SENTENCES[0])[2] == was


def test_tokens_that_the_configuration_names_by_id_keep_their_roles(
    pico_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(pico_base, base)
    tokenizer = AutoTokenizer.from_pretrained(pico_base)
    tokenizer.add_special_tokens({"eos_token": "<|last|>"})
    tokenizer.save_pretrained(base)
    last = tokenizer.eos_token_id
    write_pico_weights(base, last + 4, tied=True, eos_token_id=[2, last], pad_token_id=last)
    found = prune(base, SENTENCES[:1], tmp_path / "small")
    now = last - len(found.dropped)
    assert found.rows_dropped == len(found.dropped) + 3  # and the padding after the last entry
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == ([2, now], now)
    assert config["vocab_size"] == now + 1
    loaded = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert loaded.eos_token_id == now
    assert json.loads((tmp_path / "small/generation_config.json").read_text())["eos_token_id"] == [
        2,
        now,
    ]


def test_a_configuration_that_names_an_id_without_an_entry_is_refused(
    pico_base: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(pico_base, tmp_path / "base"))
    config = json.loads((base / "config.json").read_text()) | {"eos_token_id": 9_999}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match=r"config.json: eos_token_id is 9999, .* mend it first"):
        prune(base, SENTENCES, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_tokenizer_alone_is_made_smaller_too(pico_sentencepiece: Path, tmp_path: Path) -> None:
    found = prune(pico_sentencepiece, SENTENCES[:1], tmp_path / "small", num_pieces=7)
    assert (found.num_before, found.num_after, found.rows_dropped) == (400, 393, 0)
    assert not (tmp_path / "small/config.json").exists()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "small")) == 393


def test_the_manifest_says_what_is_gone_and_its_chain_is_checked(
    pico_base: Path, tmp_path: Path
) -> None:
    found = prune(pico_base, SENTENCES[:1], tmp_path / "small", num_pieces=3)
    manifest = read_manifest(tmp_path / "small", PRUNED)
    assert manifest.metrics["dropped"] == list(found.dropped)
    assert verify_run(tmp_path / "small")
    with (tmp_path / "small/config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ArtifactError, match="changed since stage prune"):
        verify_run(tmp_path / "small")


def test_another_protected_text_is_another_key(pico_base: Path, tmp_path: Path) -> None:
    keys = set()
    for number, texts in enumerate((["a dog"], ["a dog", "a"], ["a dog"])):
        prune(pico_base, texts, tmp_path / str(number))
        keys.add(read_manifest(tmp_path / str(number), PRUNED).key)
    assert len(keys) == 2


def test_the_command_says_what_went_and_what_it_costs_elsewhere(
    pico_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "english.txt").write_text(SENTENCES[0], encoding="utf-8")
    order = ["prune", "--base", pico_base, "-o", tmp_path / "small"]
    said = say(capsys, *order, "--protect", tmp_path / "english.txt", "--num-pieces", 2)
    assert said.status == 0
    assert "394 entries before, 392 now, 2 rows less" in said.out
    assert "gone first: ' months', ' main'" in said.out
    again = say(capsys, *order, "--protect", tmp_path / "english.txt")
    assert again.status != 0
    assert "exists" in again.error


def test_nothing_to_protect_is_refused_with_what_to_give(
    pico_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = say(capsys, "prune", "--base", pico_base, "-o", tmp_path / "small")
    assert said.status != 0
    assert "give --protect" in said.error
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no text to protect"):
        prune(pico_base, [], tmp_path / "small")
    assert not (tmp_path / "small").exists()


@pytest.fixture
def copy(pico_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pico_base, tmp_path / "copy"))


def changed(file: Path, **changes: object) -> None:
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(tree | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("added_tokens.json", {"<foo>": 394}, "it adds '<foo>' as id 394"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"394": {"content": "<foo>"}}},
            "it adds '<foo>' as id 394",
        ),
        ("tokenizer_config.json", {"pad_token": "[PAD]"}, r"it gives '\[PAD\]' a role"),
        (
            "special_tokens_map.json",
            {"additional_special_tokens": ["<a>"]},
            "it gives '<a>' a role",
        ),
    ],
)
def test_tokens_that_stand_beside_the_tokenizer_are_refused_and_not_lost(
    copy: Path, tmp_path: Path, file: str, change: dict[str, object], told: str
) -> None:
    changed(copy / file, **change)
    with pytest.raises(ArtifactError, match=f"{told}.*its row would be lost"):
        prune(copy, SENTENCES, tmp_path / "small")
    with pytest.raises(ArtifactError, match=f"{told}.*would collide"):
        extend(copy, [CHINESE] * 9, tmp_path / "extended", num_pieces=5)


def test_what_the_files_name_stays_whoever_calls_it_special(copy: Path, tmp_path: Path) -> None:
    changed(copy / "tokenizer.json", added_tokens=[])
    word = AutoTokenizer.from_pretrained(copy).convert_tokens_to_ids("Ġtheories")
    changed(copy / "config.json", pad_token_id=word)
    prune(copy, ["dog"], tmp_path / "small")
    tokens = json.loads((tmp_path / "small/tokenizer.json").read_text())["model"]["vocab"]
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>", "Ġtheories"} <= tokens.keys()
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config["pad_token_id"] == tokens["Ġtheories"]
    assert config["eos_token_id"] == tokens["<|im_end|>"]


def test_what_the_chat_template_writes_is_protected(copy: Path, tmp_path: Path) -> None:
    spec = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    spec["model"]["vocab"] |= {"us": 394, "user": 395}
    spec["model"]["merges"] += [["u", "s"], ["us", "er"]]
    changed(copy / "tokenizer.json", **spec)
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    write_pico_weights(copy, 396, tied=True, **special)
    found = prune(copy, ["dog"], tmp_path / "small")
    assert " months" in found.dropped
    small = AutoTokenizer.from_pretrained(tmp_path / "small")
    asked = small.apply_chat_template([{"role": "user", "content": "dog"}], tokenize=False)
    assert "user" in small.tokenize(str(asked))


def test_the_new_rows_of_a_grown_base_are_still_known(pico_base: Path, tmp_path: Path) -> None:
    extend(pico_base, [CHINESE] * 9, tmp_path / "extended", num_pieces=9)
    grow(pico_base, tmp_path / "extended", [CHINESE] * 9, tmp_path / "grown")
    prune(tmp_path / "grown", ["dog", CHINESE], tmp_path / "small")
    kept = AutoTokenizer.from_pretrained(tmp_path / "small")
    last = range(len(kept) - num_new_rows(tmp_path / "small"), len(kept))
    assert last
    old = set(AutoTokenizer.from_pretrained(pico_base).get_vocab())
    assert [one in old for one in kept.convert_ids_to_tokens(list(last))] == [False] * len(last)
    assert kept.convert_ids_to_tokens(last[0] - 1) in old


def test_tokens_that_generation_leaves_out_are_named_anew(copy: Path, tmp_path: Path) -> None:
    changed(copy / "generation_config.json", suppress_tokens=[393, 2], begin_suppress_tokens=[1])
    prune(copy, ["dog"], tmp_path / "small")
    told = json.loads((tmp_path / "small/generation_config.json").read_text())
    assert told["suppress_tokens"] == [2]  # the other one is gone
    assert told["begin_suppress_tokens"] == [1]
    changed(copy / "generation_config.json", bad_words_ids=[[300]])
    with pytest.raises(ArtifactError, match="bad_words_ids names tokens by their ids"):
        prune(copy, ["dog"], tmp_path / "other")


def test_what_is_no_folder_of_a_base_is_told_at_once(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer.json: no such folder; give the folder"):
        prune(copy / "tokenizer.json", ["dog"], tmp_path / "small")
    file = copy / "model.safetensors"
    tensors = load_file(file)
    tensors["wte.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="it is not a Llama-style model"):
        prune(copy, ["dog"], tmp_path / "small")
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="an adapter; give the folder of its base"):
        prune(copy, ["dog"], tmp_path / "small")


@pytest.mark.slow
def test_a_whole_recipe_runs_on_a_smaller_base(pico_recipe: Path, tmp_path: Path) -> None:
    prune(load_recipe(pico_recipe).base, [SENTENCES[0], *POEMS], tmp_path / "small")
    done = run(pico_recipe, tmp_path / "run", overrides=[f"base={tmp_path / 'small'}"])
    audit = json.loads((tmp_path / "run/10-tokenizer/audit.json").read_text(encoding="utf-8"))
    assert audit["num_new_pieces"] == 20
    assert audit["num_pieces_before"] < 394
    assert done.results
