"""An answer is learned after exactly the ids that llama.cpp and transformers ask it with."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from transformers import PreTrainedTokenizerFast

from hanpaca.checkpoints.gguf_model import open_gguf
from hanpaca.data.conversations import Conversation, Message
from hanpaca.data.named_templates import ALPACA, CHATML
from hanpaca.data.pack import IGNORED
from hanpaca.data.templates import Labelled, Writer, encode_conversation
from hanpaca.model.load import load_tokenizer
from hanpaca.steps.write_gguf import folder_to_gguf
from hanpaca.tokenizer.conversion.gguf import write_tokenizer
from hanpaca.tokenizer.conversion.gguf_side import gguf_vocabulary
from hanpaca.tokenizer.conversion.tokenizer_json import convert_sentencepiece
from tests.support.llama_cpp import served
from tests.support.models import model_of_one_layer

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% else %}{% set turns = messages %}{% set system = '' %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token }}{% else %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "alpaca": ALPACA,
    "llama-2": LLAMA_2,
    "mistral": MISTRAL,
    "smollm2": SMOLLM2,
}
TALKS: tuple[tuple[str, ...], ...] = (
    ("你好", "好的", "再见", "走好"),
    ("What is 1+1?", "Two.", "And\n\n2+2?", "Four,\nthen.", "## ###", "# title\n\n- a\n  - b"),
    ("q", "\nbegins with a line", "q", "  with spaces", "q", "ends with one\n", "q", "x"),
    ("  两  ", "\n\n\t答", "def f():\n    return 1", "    indented", "…", "😀龘"),
)


def turns_of(talk: Sequence[str], *, system: str = "") -> Conversation:
    turns = tuple(
        Message("assistant" if number % 2 else "user", text) for number, text in enumerate(talk)
    )
    return (Message("system", system), *turns) if system else turns


CONVERSATIONS = (*(turns_of(talk) for talk in TALKS), turns_of(TALKS[0], system="Be brief. 简短"))


def asked(conversation: Conversation) -> list[list[dict[str, str]]]:
    """The turns before each answer."""
    rows = [{"role": turn.role, "content": turn.content} for turn in conversation]
    return [rows[:number] for number, row in enumerate(rows) if row["role"] == "assistant"]


def spans(sequences: Sequence[Labelled]) -> list[tuple[list[int], list[int]]]:
    """The ids before each learned answer, and its own."""
    found = []
    for ids, labels in sequences:
        edges = [i for i in range(len(ids)) if (labels[i] == IGNORED) != (labels[i - 1] == IGNORED)]
        starts = [i for i in edges if labels[i] != IGNORED]
        for start in starts:
            end = next((i for i in range(start, len(ids)) if labels[i] == IGNORED), len(ids))
            assert labels[start:end] == ids[start:end]
            found.append((ids[:start], ids[start:end]))
    return found


def spelled(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    """The characters of ids, one after another, without what decoders do at the beginning."""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    if "<0x0A>" not in tokenizer.get_vocab():
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    data = b"".join(
        bytes([int(piece[3:5], 16)])
        if len(piece) == 6 and piece.startswith("<0x")
        else piece.replace("▁", " ").encode()
        for piece in pieces
    )
    return data.decode()


def check(folder: Path, template: str, scratch: Path) -> None:
    """Compare with transformers, and with llama.cpp reading the GGUF of a model."""
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = template
    model = model_of_one_layer(folder, scratch / "model", chat_template=template)
    folder_to_gguf(model, scratch / "m.gguf", file_type="f16", metadata={})
    writer = Writer.of(tokenizer)
    starts = tokenizer("").input_ids
    with served(scratch / "m.gguf") as llama:
        for conversation in CONVERSATIONS:
            learned = spans(encode_conversation(conversation, writer))
            prompts = asked(conversation)
            assert len(learned) == len(prompts)
            answers = [turn.content for turn in conversation if turn.role == "assistant"]
            for (before, answer), prompt, text in zip(learned, prompts, answers, strict=True):
                assert before == llama.prompt_ids(prompt)
                theirs = cast(
                    list[int],
                    tokenizer.apply_chat_template(
                        prompt, add_generation_prompt=True, return_dict=False
                    ),
                )
                # llama.cpp puts the BOS of a tokenizer that adds one, the template or no.
                assert before == ([] if theirs[:1] == starts else starts) + theirs
                is_spaced = template == LLAMA_2
                end = {CHATML: "<|im_end|>", SMOLLM2: "<|im_end|>"}.get(
                    template, tokenizer.eos_token
                )
                wanted = f" {text} {end}" if is_spaced else f"{text}{end}"
                assert spelled(tokenizer, answer) == wanted


@pytest.fixture(scope="session")
def pieces(pico_sentencepiece: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pieces") / "t"
    convert_sentencepiece(pico_sentencepiece, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_pieces_of_sentencepiece(template: str, pieces: Path, tmp_path: Path) -> None:
    check(pieces, TEMPLATES[template], tmp_path)


@pytest.mark.parametrize("template", TEMPLATES)
def test_bytes(template: str, pico_base: Path, tmp_path: Path) -> None:
    check(pico_base, TEMPLATES[template], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_pieces_of_llama(template: str, shared_data: Path, tmp_path: Path) -> None:
    convert_sentencepiece(shared_data / "tokenizers" / "llama", tmp_path / "t")
    check(tmp_path / "t", TEMPLATES[template], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_bytes_of_smollm2(template: str, smollm2_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    write_tokenizer(gguf_vocabulary(open_gguf(smollm2_gguf)), tmp_path / "t")
    check(tmp_path / "t", TEMPLATES[template], tmp_path)
