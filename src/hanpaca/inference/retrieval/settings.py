"""How documents are read into an index, and how much of it a question brings up."""

from pydantic import Field

from hanpaca.sections import RecipeSection


class IndexSettings(RecipeSection):
    """How documents are read."""

    encoding: str = "auto"
    """Of texts, by its Python name, such as gb18030; auto finds it out for each file."""
    text_field: str = "text"
    """Field of a .jsonl line, or column of a .parquet file, that holds the text."""
    max_megabytes: int = Field(default=100, ge=1)
    """Larger files are left out, and named."""
    passage_characters: int = Field(default=500, ge=50)
    """Of a passage at most, about."""


class AskSettings(RecipeSection):
    """How many passages a question brings up, and when none is enough like it."""

    num_sources: int = Field(default=5, ge=1, le=40)
    """Passages that the answer is made from."""
    least_share: float = Field(default=0.25, ge=0, le=1)
    """Of the weight of the question's terms, what a passage must have; where none has, no model is
    asked."""
    least_similarity: float = Field(default=0.0, ge=-1, le=1)
    """Where there are vectors, a passage also counts whose cosine with the question is more than
    this; what is near depends on the embedder."""
