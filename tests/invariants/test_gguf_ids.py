"""A text has the same ids in llama.cpp, reading our GGUF, as in the tokenizer it comes from."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import xllamacpp
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.data.documents import read_documents
from hanpaca.steps.write_gguf import folder_to_gguf, gguf_to_folder
from hanpaca.tokenizer.conversion.gguf import read_vocabulary, write_tokenizer
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary
from hanpaca.tokenizer.conversion.pretokenizers import PRE_TOKENIZERS, WHOLE_WORDS
from hanpaca.tokenizer.conversion.published import merge_sentencepiece
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
from hanpaca.tokenizer.conversion.vocabularies import folder_vocabulary
from hanpaca.tokenizer.extension.extend import extend_tokenizer, write_extension
from tests.support.models import model_of_one_layer, rows_of

ODD = (
    "",
    " ",
    "  two  spaces ",
    "\ttab\n\n\nlines\r\n",
    "I'll DON'T it's 1234567 3.14 a1b2",
    "naïve café e\u0301 ﬁ Ωmega привет 안녕 かな カナ ไทย עברית",
    "白日依山尽，黄河入海流。《诗》……（1984年）",
    "😀👩‍👩‍👧 🇨🇳 \u200b\ufeff𠀀龘",
    "x = {'a': [1, 2]}  # comment\n    return x",
    "   ",
    "\u3000全角　空格",
    "…",
    "A" * 50 + "é" * 30,
)
TEXTS = (*ODD, *(f"{a} {b}" for a in ODD for b in ODD))


class Llama:
    """llama.cpp's tokenizer of a GGUF file."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def encode(self, text: str, *, whole: bool = False) -> list[int]:
        """Ids of a text as it is, or with what a model wants around it."""
        request = {"content": text, "add_special": whole, "parse_special": whole}
        try:
            return self._ask(request)
        except ConnectionError:  # the server hangs up after seconds without a question
            self._connection.close()
            return self._ask(request)

    def _ask(self, request: dict[str, Any]) -> list[int]:
        self._connection.request("POST", "/tokenize", json.dumps(request))
        with self._connection.getresponse() as reply:
            return list(json.loads(reply.read())["tokens"])


@contextmanager
def served(gguf: Path) -> Iterator[Llama]:
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = 64
    params.verbosity = -1
    params.warmup = False
    server = xllamacpp.Server(params)
    try:
        with closing(HTTPConnection(server.listening_address.removeprefix("http://"))) as open_one:
            yield Llama(open_one)
    finally:
        del server  # which ends its threads


@contextmanager
def written(tokenizer: Path, folder: Path) -> Iterator[Llama]:
    """llama.cpp with the GGUF of a tokenizer; and the GGUF read back, in `folder/back`."""
    model = model_of_one_layer(tokenizer, folder / "model")
    folder_to_gguf(model, folder / "m.gguf", file_type="f16", metadata={})
    gguf_to_folder(folder / "m.gguf", folder / "back")
    with served(folder / "m.gguf") as llama:
        yield llama


def differing(ours: Llama, oracle: Any, texts: Sequence[str]) -> list[str]:
    """Texts to which llama.cpp gives other ids than a sentencepiece or tokenizers encoder."""
    if isinstance(oracle, Tokenizer):
        encoded = oracle.encode_batch(list(texts), add_special_tokens=False)
        wanted = [list(one.ids) for one in encoded]
    else:
        wanted = oracle.encode(list(texts))
    return [text for text, ids in zip(texts, wanted, strict=True) if ours.encode(text) != ids]


def tokenizers_of(folder: Path) -> list[Any]:
    """Every engine that the files of a folder are for."""
    engines: list[Any] = []
    if (folder / "tokenizer.model").is_file():
        file = str(folder / "tokenizer.model")
        engines.append(sentencepiece.SentencePieceProcessor(model_file=file))
    if (folder / "tokenizer.json").is_file():
        engines.append(Tokenizer.from_file(str(folder / "tokenizer.json")))
    return engines


def bytes_tokenizer(pre: str, folder: Path, lines: Sequence[str], vocab_size: int = 1000) -> Path:
    """Byte-level BPE with a splitting rule, trained on lines."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=pre in WHOLE_WORDS))
    spec = json.loads(tokenizer.to_str())
    spec["pre_tokenizer"] = PRE_TOKENIZERS[pre]
    spec["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(lines), trainer)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|start|>",
        "eos_token": "<|end|>",
        "add_bos_token": pre in WHOLE_WORDS,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_bytes_split_by_every_known_rule(pre: str, tmp_path: Path) -> None:
    folder = bytes_tokenizer(pre, tmp_path / "t", TEXTS)
    rows = rows_of(folder)
    vocabulary = read_vocabulary(folder, rows)
    told = [note for note in vocabulary.differences if not note.startswith("add_bos_token")]
    assert bool(told) is (pre == "tekken")
    texts = [text for text in TEXTS if "naïve" not in text or not told]
    with written(folder, tmp_path) as llama:
        for engine in (*tokenizers_of(folder), *tokenizers_of(tmp_path / "back")):
            assert differing(llama, engine, texts) == []
        ids = AutoTokenizer.from_pretrained(tmp_path / "back").encode("Hello")
        assert llama.encode("Hello", whole=True) == ids
        assert (ids[0] == 1) is (pre in WHOLE_WORDS)
    assert read_vocabulary(tmp_path / "back", rows) == vocabulary


def test_pieces_of_sentencepiece(pico_sentencepiece: Path, tmp_path: Path) -> None:
    convert_sentencepiece(pico_sentencepiece, tmp_path / "t")
    with written(tmp_path / "t", tmp_path) as llama:
        for engine in (*tokenizers_of(tmp_path / "t"), *tokenizers_of(tmp_path / "back")):
            assert differing(llama, engine, TEXTS) == []
        ids = AutoTokenizer.from_pretrained(tmp_path / "t").encode("Hello </s>")
        assert llama.encode("Hello </s>", whole=True) == ids
        assert ids[0] == 1
    rows = rows_of(tmp_path / "t")
    assert folder_vocabulary(tmp_path / "back", rows) == folder_vocabulary(tmp_path / "t", rows)


def real_lines(shared_data: Path, num_lines: int) -> list[str]:
    """Lines of Chinese and English, half each, and the odd ones."""
    texts = list(TEXTS)
    for name in ("zh.jsonl.zst", "en.txt.zst"):
        documents = read_documents([shared_data / "corpus" / name])
        lines = (line for one in documents for line in one.text.split("\n") if line.strip())
        texts += islice(lines, num_lines // 2)
    return texts


LINES = 10_000


@pytest.fixture(scope="session")
def lines(shared_data: Path) -> list[str]:
    return real_lines(shared_data, LINES)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["stock", "merged", "padded", "extended"])
def test_real_sentencepiece_vocabularies(
    which: str, shared_data: Path, lines: list[str], tmp_path: Path
) -> None:
    """LLaMA's own, the published Chinese merges of 49,953 and 49,954 pieces, and our extension."""
    llama = shared_data / "tokenizers" / "llama"
    folder = tmp_path / "t"
    folder.mkdir()
    if which in ("merged", "padded"):
        chinese = shared_data / "tokenizers" / "chinese_sp.model"
        model, num_pieces = merge_sentencepiece(
            llama / "tokenizer.model", chinese, pad=which == "padded"
        )
        assert num_pieces == 49_953 + (which == "padded")
        (folder / "tokenizer.model").write_bytes(model)
    elif which == "stock":
        convert_sentencepiece(llama, folder)
    else:
        extension = extend_tokenizer(llama, lines, num_pieces=2000, scripts=("Han",))
        write_extension(extension, llama, folder)
    with written(folder, tmp_path) as ours:
        exact, *others = tokenizers_of(folder)
        assert differing(ours, exact, lines) == []
        back = tokenizers_of(tmp_path / "back")
        assert exact.encode(lines) == back[0].encode(lines)
        for engine in (*others, *back[1:]):
            assert differing(ours, engine, TEXTS) == []
    # Scores of 0 are equal scores, which no merge list can say.
    assert len(back) == (1 if which in ("merged", "padded") else 2)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["smollm", "extended", "llama-bpe", "qwen2"])
def test_real_byte_level_vocabularies(
    which: str, lines: list[str], smollm2_gguf: Path, tmp_path: Path
) -> None:
    """SmolLM2's and our extension of it, and what Llama 3's and Qwen's rules learn of the lines."""
    if which in PRE_TOKENIZERS and which != "smollm":
        folder = bytes_tokenizer(which, tmp_path / "t", lines, vocab_size=8000)
    else:
        folder = base = tmp_path / "smollm"
        base.mkdir()
        write_tokenizer(gguf_vocabulary(open_gguf(smollm2_gguf)), base)
        if which == "extended":
            folder = tmp_path / "t"
            extension = extend_tokenizer(base, lines, num_pieces=2000, scripts=("Han",))
            write_extension(extension, base, folder)
    with written(folder, tmp_path) as ours:
        (exact,) = tokenizers_of(folder)
        assert differing(ours, exact, lines) == []
        (back,) = tokenizers_of(tmp_path / "back")
        assert differing(ours, back, TEXTS) == []


@pytest.mark.slow
def test_pieces_behind_added_tokens(pico_sentencepiece: Path, tmp_path: Path) -> None:
    """ChatML's tokens stand beside `tokenizer.model`; new pieces come after them everywhere."""
    base, folder = tmp_path / "base", tmp_path / "t"
    base.mkdir()
    shutil.copyfile(pico_sentencepiece / "tokenizer.model", base / "tokenizer.model")
    added = {"<|im_end|>": 400, "<|im_start|>": 401}
    (base / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    extension = extend_tokenizer(base, ["白日依山尽，黄河入海流。"] * 9, num_pieces=9)
    assert extension.first_id == 402
    write_extension(extension, base, folder)
    with written(folder, tmp_path) as ours:
        for engine in tokenizers_of(folder):
            assert differing(ours, engine, [*TEXTS, "白日依山尽 and a dog"]) == []
        assert ours.encode("<|im_start|>", whole=True)[-1] == 401
