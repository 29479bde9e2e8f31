"""Training on packed blocks is training on each sequence by itself, from text to gradient."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaForCausalLM

from hanpaca.data.conversations import Message
from hanpaca.data.named_templates import CHATML
from hanpaca.data.pack import IGNORED, Blocks, Sequence_, document_sequence, pack
from hanpaca.data.templates import Writer, encode_conversation
from hanpaca.lora_settings import LoraSettings
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
    add_lora(model, LoraSettings(rank=4, alpha=8, targets=("q_proj", "v_proj", "down_proj")))
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


@pytest.mark.slow
@QUIET
@given(documents=st.lists(TOKENS, min_size=1, max_size=9))
def test_documents(documents: list[list[int]], base: Path) -> None:
    check(base, [document_sequence(ids, start_id=1, end_id=2) for ids in documents])


@pytest.mark.slow
@QUIET
@given(
    talks=st.lists(st.lists(st.text("ab 山水?", min_size=1), min_size=1, max_size=3), min_size=1)
)
def test_conversations(talks: list[list[str]], base: Path) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = CHATML
    writer = Writer.of(tokenizer)
    sequences = [
        sequence
        for texts in talks
        for sequence in encode_conversation(
            tuple(
                turn
                for text in texts
                for turn in (Message("user", text), Message("assistant", text))
            ),
            writer,
        )
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


def wrapped_by_peft(base: Path) -> tuple[nn.Module, CausalLM]:
    """peft's own layers, as trl uses them; and the model within."""
    model = load_model(base, dtype=torch.float32)
    torch.manual_seed(0)
    found = get_peft_model(
        model, LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "down_proj"])
    )
    return found, model


def wrapped_by_accelerate(base: Path) -> tuple[nn.Module, CausalLM]:
    model = trained_model(base)
    found = Accelerator(cpu=True, mixed_precision="no").prepare(NextTokenLoss(model))
    return cast(nn.Module, found), model


PACKED = pack(
    [(ids, ids) for ids in ([1, 40, 50, 60, 70, 2], [1, 90, 17, 2], [*range(3, 33)], [5, 9, 2])],
    block_tokens=BLOCK,
    pad_id=2,
)


def grads_of(losses: list[torch.Tensor], model: nn.Module) -> list[torch.Tensor]:
    model.zero_grad()
    sum(losses, torch.zeros((), device=losses[0].device)).backward()  # type: ignore[no-untyped-call]
    return [one.grad.clone() for one in model.parameters() if one.grad is not None]


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "hanpaca_grouped"])
@pytest.mark.parametrize("wrap", [wrapped_by_peft, wrapped_by_accelerate])
def test_every_attention_and_wrapper(
    wrap: Callable[[Path], tuple[nn.Module, CausalLM]],
    attention: str,
    checkpointing: bool,
    pico_untied: Path,
) -> None:
    """Summed loss and all gradients of packed blocks against the texts one after the other."""
    model, inner = wrap(pico_untied)
    inner.set_attn_implementation(attention)
    if checkpointing:
        inner.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    loss = model if isinstance(model, NextTokenLoss) else NextTokenLoss(inner)
    packed, alone = packed_and_alone(loss)
    found, wanted = grads_of(packed, model), grads_of(alone, model)
    torch.testing.assert_close(packed[0], sum(alone), rtol=1e-5, atol=1e-5)
    assert len(found) == len(wanted) > 0
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def packed_and_alone(
    loss: Callable[..., dict[str, torch.Tensor]], device: str = "cpu"
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Summed losses: of all packed blocks at once, and of each text by itself."""
    one = torch.tensor(1, device=device)
    given = {name: column.to(device) for name, column in batch(PACKED).items()}
    packed = [loss(**given, num_items_in_batch=one)["loss"]]
    texts = [ids[None].to(device) for ids in separate_texts()]
    alone = [loss(input_ids=ids, labels=ids, num_items_in_batch=one)["loss"] for ids in texts]
    return packed, alone


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("wrap", [wrapped_by_peft, wrapped_by_accelerate])
def test_the_masks_of_flex_attention(
    wrap: Callable[[Path], tuple[nn.Module, CausalLM]], pico_untied: Path
) -> None:
    """With plain sums in place of its kernels, which are for GPUs; so are its gradients."""
    model, inner = wrap(pico_untied)
    inner.set_attn_implementation("flex_attention")
    loss = model if isinstance(model, NextTokenLoss) else NextTokenLoss(inner)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        packed, alone = packed_and_alone(loss)
    torch.testing.assert_close(packed[0], sum(alone), rtol=1e-5, atol=1e-5)


def separate_texts() -> list[torch.Tensor]:
    """The texts of `PACKED`, found again by their positions."""
    texts = []
    for ids, labels, positions in zip(
        PACKED.input_ids, PACKED.labels, PACKED.position_ids, strict=True
    ):
        starts = [*(int(n) for n in (positions == 0).nonzero()[0]), BLOCK]
        for start, end in pairwise(starts):
            if any(label != IGNORED for label in labels[start:end]):
                texts.append(torch.from_numpy(ids[start:end]).long())
    return texts


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="its kernels are for GPUs")
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_on_a_gpu(attention: str, checkpointing: bool, pico_untied: Path) -> None:
    model = trained_model(pico_untied)
    nn.Module.to(model, "cuda")
    model.set_attn_implementation(attention)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    packed, alone = packed_and_alone(NextTokenLoss(model), "cuda")
    found, wanted = grads_of(packed, model), grads_of(alone, model)
    torch.testing.assert_close(packed[0], sum(alone), rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
