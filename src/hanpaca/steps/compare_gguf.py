"""Files against the model they were quantized from, on a text.

The weights are what is compared: both models run in float32, from dequantized weights. llama.cpp
rounds activations too, which is not in these numbers.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from hanpaca.errors import ArtifactError
from hanpaca.evals.divergence import Divergence, block_divergence, summarise
from hanpaca.steps.layerwise import Blocks, LayerwiseModel, open_layerwise


def compare_models(
    paths: Sequence[Path],
    texts: Iterable[str],
    *,
    num_tokens: int,
    block_tokens: int,
    on_layer: Callable[[Path, int, int], None] = lambda path, done, total: None,
) -> list[Divergence]:
    """Measure how far models are from the first of them, which comes first in the result.

    See `compared_models`, which gives each as soon as it is measured.
    """
    return list(
        compared_models(
            paths, texts, num_tokens=num_tokens, block_tokens=block_tokens, on_layer=on_layer
        )
    )


def compared_models(
    paths: Sequence[Path],
    texts: Iterable[str],
    *,
    num_tokens: int,
    block_tokens: int,
    on_layer: Callable[[Path, int, int], None] = lambda path, done, total: None,
) -> Iterator[Divergence]:
    """Measure how far models are from the first of them, one after another.

    Of each model one layer is in memory at a time, of the reference also the head.

    Args:
        paths: Model folders or GGUF files.
        texts: Documents.
        num_tokens: Most tokens of them that are looked at.
        block_tokens: Context of a prediction at most.
        on_layer: Told the model at work, its layers done and in all.

    Raises:
        ArtifactError: A model is damaged, or its tokenizer is not that of the first.
        DataError: There is no text.
    """
    models = [open_layerwise(path) for path in paths]
    pieces = models[0].tokenizer.get_vocab()
    for model in models[1:]:
        if model.tokenizer.get_vocab() != pieces:
            raise ArtifactError(
                f"{model.path}: its tokenizer is not that of {paths[0]}: predictions of different "
                "tokens cannot be compared; `hanpaca eval` measures bits per character of both"
            )
    blocks = models[0].blocks(texts, num_tokens=num_tokens, block_tokens=block_tokens)
    reference = _predictions(models[0], blocks, on_layer)
    for number, model in enumerate(models):
        states, head = _predictions(model, blocks, on_layer) if number else reference
        parts = [
            block_divergence((ours[:-1], reference[1]), (theirs[:-1], head), ids[1:])
            for ours, theirs, ids in zip(reference[0], states, blocks.ids, strict=True)
        ]
        yield summarise(
            model.path.name,
            parts,
            num_bytes=model.num_bytes,
            num_characters=blocks.num_characters,
        )


def _predictions(
    model: LayerwiseModel, blocks: Blocks, on_layer: Callable[[Path, int, int], None]
) -> tuple[list[Tensor], Tensor]:
    def tell(done: int, total: int) -> None:
        on_layer(model.path, done, total)

    return model.states(blocks, on_layer=tell), model.head()
