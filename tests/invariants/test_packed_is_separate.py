"""Training on packed blocks is training on each sequence by itself, from text to gradient."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from hanpaca.data.conversations import CHATML, IGNORED, Message, encode_conversation
from hanpaca.data.pack import Blocks, Sequence_, document_sequence, pack
from hanpaca.model.attention import use_grouped_attention
from hanpaca.model.load import CausalLM, load_model, load_tokenizer
from hanpaca.model.lora import adapter_state, add_lora, add_new_rows, trainable_groups
from hanpaca.model.loss import NextTokenLoss
from hanpaca.training.train import BlockDataset

NUM_NEW_ROWS = 20
BLOCK = 48
QUIET = settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
TOKENS = st.lists(st.integers(3, 393), min_size=1, max_size=70)


def trained_model(base: Path) -> CausalLM:
    """As a training prepares it, with factors that do something, in float32."""
    model = load_model(base, dtype=torch.float32)
    torch.manual_seed(0)
    add_lora(model, rank=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj", "down_proj"])
    add_new_rows(model, NUM_NEW_ROWS)
    for parameter in trainable_groups(model)[0]:
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module", params=["pico_base", "pico_untied"])
def base(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def losses_alone(model: CausalLM, sequences: list[Sequence_]) -> tuple[torch.Tensor, int]:
    """Summed nats by transformers' own loss, each piece of at most a block as a batch of one."""
    total, count = torch.zeros(()), 0
    for ids, labels in sequences:
        for start in range(0, len(ids), BLOCK):
            part, its_labels = ids[start : start + BLOCK], list(labels[start : start + BLOCK])
            its_labels[0] = IGNORED
            num_labels = sum(label != IGNORED for label in its_labels)
            if num_labels:
                scores = model(input_ids=torch.tensor([part]), use_cache=False).logits
                total = total + torch.nn.functional.cross_entropy(
                    scores[0, :-1], torch.tensor(its_labels[1:]), reduction="sum"
                )
                count += num_labels
    return total, count


def check(base: Path, sequences: list[Sequence_]) -> None:
    blocks = pack(sequences, block_tokens=BLOCK, pad_id=2)
    packed, alone = trained_model(base), trained_model(base)
    use_grouped_attention(packed)
    packed_loss = NextTokenLoss(packed)(**batch(blocks))["loss"]
    nats, count = losses_alone(alone, sequences)
    assert count > 0
    torch.testing.assert_close(packed_loss, nats / count, rtol=1e-5, atol=1e-5)
    packed_loss.backward()
    (nats / count).backward()  # type: ignore[no-untyped-call]
    for one, other in zip(parameters(packed), parameters(alone), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


def batch(blocks: Blocks) -> dict[str, torch.Tensor]:
    """All blocks at once, as the training loop stacks them."""
    rows = BlockDataset(blocks.input_ids, blocks.labels, blocks.position_ids)
    return {name: torch.stack([rows[n][name] for n in range(len(rows))]) for name in rows[0]}


def parameters(model: CausalLM) -> list[torch.nn.Parameter]:
    factors, rows = trainable_groups(model)
    return [*factors, *rows]


@QUIET
@given(documents=st.lists(TOKENS, min_size=1, max_size=9))
def test_documents(documents: list[list[int]], base: Path) -> None:
    check(base, [document_sequence(ids, start_id=1, end_id=2) for ids in documents])


@QUIET
@given(
    talks=st.lists(st.lists(st.text("ab 山水?", min_size=1), min_size=1, max_size=3), min_size=1)
)
def test_conversations(talks: list[list[str]], base: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = CHATML

    def render(messages: list[dict[str, str]], prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        )

    sequences = [
        encode_conversation(
            tuple(
                turn
                for text in texts
                for turn in (Message("user", text), Message("assistant", text))
            ),
            render=render,
            encode=lambda text: list(tokenizer.encode(text, add_special_tokens=False)),
        )
        for texts in talks
    ]
    # As pipeline.sft does: what is longer than a block loses its end.
    cut = [(ids[:BLOCK], labels[:BLOCK]) for ids, labels in sequences]
    assume(any(label != IGNORED for _, labels in cut for label in labels))
    check(base, cut)


def test_a_neighbour_changes_nothing(base: Path) -> None:
    """The direct form: the scores of a sequence are the same whatever lies beside it."""
    model = load_model(base, dtype=torch.float32)
    use_grouped_attention(model)
    mine = [1, 40, 50, 60, 70, 2]
    scores = []
    for neighbour in ([1, 3, 3, 3, 2], [1, 380, 90, 17, 2]):
        blocks = pack([(neighbour, neighbour), (mine, mine)], block_tokens=16, pad_id=2)
        with torch.inference_mode():
            found = model(
                input_ids=torch.from_numpy(blocks.input_ids).long(),
                position_ids=torch.from_numpy(blocks.position_ids).long(),
                use_cache=False,
            ).logits[0]
        scores.append(found[len(neighbour) : len(neighbour) + len(mine)])
    with torch.inference_mode():
        alone = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)(torch.tensor([mine]))
    assert torch.equal(*scores)
    torch.testing.assert_close(scores[0], alone.logits[0], rtol=1e-4, atol=1e-4)


def test_adapters_hold_what_was_trained(base: Path) -> None:
    """Every parameter with a gradient above is one that is saved."""
    model = trained_model(base)
    assert len(adapter_state(model)) == len(parameters(model))
