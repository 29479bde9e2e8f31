"""What a decode step of a model must read, from the sizes in its `config.json`."""

from dataclasses import dataclass
from pathlib import Path

from hanpaca.errors import ArtifactError, RecipeError
from hanpaca.files import read_json


@dataclass(frozen=True)
class ParameterCounts:
    """Sizes of a Llama-style model, in parameters."""

    num_rows: int
    """Rows of the head; the vocabulary, perhaps rounded up."""
    hidden_size: int
    """Parameters of a row."""
    num_body: int
    """All parameters but embedding and head."""
    is_tied: bool
    """Whether embedding and head are the same matrix."""

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return self.num_body + self.added_parameters(self.num_rows)

    def added_parameters(self, num_pieces: int) -> int:
        """Parameters of so many rows: once where embedding and head are tied, else twice."""
        return num_pieces * self.hidden_size * (1 if self.is_tied else 2)

    def step_reads(self, num_pieces: int = 0) -> int:
        """Weights that decoding one token reads, with so many pieces added.

        All of the body, and the whole head; of the embedding one row, which does not count.
        """
        return self.num_body + (self.num_rows + num_pieces) * self.hidden_size

    def head_share(self, num_pieces: int = 0) -> float:
        """The head's share of what decoding one token reads."""
        return 1 - self.num_body / self.step_reads(num_pieces)


def counts_of_sizes(
    num_parameters: int, hidden_size: int, *, num_rows: int, is_tied: bool
) -> ParameterCounts:
    """Make a shape of a model's size as its name says it.

    Raises:
        RecipeError: The rows alone are more than the whole.
    """
    num_body = num_parameters - num_rows * hidden_size * (1 if is_tied else 2)
    if min(num_body, hidden_size) <= 0:
        raise RecipeError(
            f"{num_parameters} parameters of hidden size {hidden_size} leave nothing beside "
            f"{num_rows} rows: check the three sizes"
        )
    return ParameterCounts(num_rows, hidden_size, num_body, is_tied)


def read_counts(folder: Path) -> ParameterCounts:
    """Read the sizes from a Hugging Face folder's `config.json`.

    Counted as transformers' LlamaForCausalLM is built: in each layer four attention matrices, a
    gated feed-forward of three, and two norms; one norm at the end.

    Raises:
        ArtifactError: The file is missing, damaged, or lacks a size.
    """
    path = folder / "config.json"
    config = read_json(path)
    try:
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        head_size = config.get("head_dim") or hidden // heads
        kv_heads = config.get("num_key_value_heads") or heads
        attention = 2 * hidden * head_size * (heads + kv_heads)
        layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
        return ParameterCounts(
            num_rows=config["vocab_size"],
            hidden_size=hidden,
            num_body=config["num_hidden_layers"] * layer + hidden,
            is_tied=bool(config.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ArtifactError(
            f"{path}: not the sizes of a Llama-style model ({error})",
            "give {num_parameters} and {hidden_size}",
        ) from error
