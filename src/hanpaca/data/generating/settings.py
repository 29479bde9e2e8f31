"""How instructions are made with another model, and which of its rows are kept."""

from typing import Literal, Self

from pydantic import Field, model_validator

from hanpaca.sections import RecipeSection

GeneratingMode = Literal["grid", "magpie", "evolve", "from_text"]


class GenerateSettings(RecipeSection):
    """What a model is asked, how often, and what of it is kept."""

    mode: GeneratingMode = "grid"
    """`grid`: an instruction for a topic, task, difficulty and persona, then its answer; `magpie`:
    the model writes the user's turn by itself; `evolve`: instructions are rewritten, deeper or
    wider, then answered; `from_text`: questions about documents, answered from them."""
    language: str = "zh"
    """Of instructions and answers."""
    num_rows: int = Field(default=100, ge=1)
    """Rows to keep; as many calls are made as that takes."""
    seed: int = Field(default=0, ge=0)
    """Of what is drawn, and of the model's sampling: the same seed asks the same."""
    temperature: float = Field(default=0.8, ge=0, le=2)
    """Of the model."""
    max_tokens: int = Field(default=1024, ge=16)
    """Of a reply, at most; an answer that the limit cuts off goes."""
    rounds: int = Field(default=2, ge=1, le=10)
    """Under `evolve`: how often an instruction is rewritten."""
    template: str = "chatml"
    """Under `magpie`: how the model's turns are written, a name of docs/chat.md or a Jinja file."""
    words: str | None = None
    """YAML file of topics, tasks, personas and prompts, in place of those of the language."""
    json_schema: bool = True
    """Have the endpoint hold the reply to a JSON schema; where it refuses, it is only asked to."""
    min_instruction_characters: int = Field(default=4, ge=1)
    """Rows with shorter instructions go."""
    max_instruction_characters: int = Field(default=2_000, ge=1)
    """Rows with longer instructions go."""
    min_answer_characters: int = Field(default=2, ge=1)
    """Rows with shorter answers go."""
    max_answer_characters: int = Field(default=8_000, ge=1)
    """Rows with longer answers go."""
    min_script_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the letters of an instruction and its answer that must be in the language's scripts;
    0 for any."""
    most_alike: float = Field(default=0.7, gt=0, le=1)
    """ROUGE-L from which an instruction is too much like one that is kept, in characters of scripts
    without spaces and in words of others; 1 for the same only."""
    leak_units: int = Field(default=13, ge=5, le=50)
    """Rows that share so many units in a row with an evaluation text go; see docs/data.md."""
    num_at_once: int = Field(default=4, ge=1, le=256)
    """Calls that are open at a time."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """After which a call is given up, and made again."""
    input_price: float = Field(default=0.0, ge=0)
    """Of a million tokens of prompts, in any currency."""
    output_price: float = Field(default=0.0, ge=0)
    """Of a million tokens of replies, likewise."""
    max_cost: float | None = Field(default=None, ge=0)
    """What all calls together may cost, at these prices: no call begins that could go beyond it."""
    max_calls: int | None = Field(default=None, ge=1)
    """Calls at most; none for 20 a row."""

    @model_validator(mode="after")
    def _a_cap_needs_prices(self) -> Self:
        if self.max_cost is not None and not (self.input_price or self.output_price):
            raise ValueError("max_cost says nothing without input_price or output_price")
        if (
            self.max_instruction_characters < self.min_instruction_characters
            or self.max_answer_characters < self.min_answer_characters
        ):
            raise ValueError("the most characters of a text are less than the least")
        return self

    @property
    def asked_by(self) -> dict[str, object]:
        """What decides which requests are made and which rows are kept.

        The rest may be changed while the work goes on.
        """
        free = {"num_rows", "num_at_once", "timeout_seconds", "max_cost", "max_calls"}
        return self.model_dump(mode="json", exclude=free | {"input_price", "output_price"})
