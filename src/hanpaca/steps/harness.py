"""A model for lm-evaluation-harness: its tasks on folders, GGUF files and adapters on a base.

The harness's own `gguf` model asks for what llama.cpp's server does not give, and leaves the
requests without an answer out. This one asks by ids; the tokenizer is the model's own.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hanpaca.errors import RecipeError, ResourceError
from hanpaca.evals.choice.rules import ChoiceRequest
from hanpaca.model.load import end_token, start_token
from hanpaca.progress import silent
from hanpaca.steps.candidates import Adapted, ready
from hanpaca.steps.choice_scorers import open_reader

try:
    from lm_eval import utils
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise ResourceError(
        "lm-evaluation-harness is not installed: pip install 'hanpaca[eval]'"
    ) from error

_TOGETHER = 32
"""Prompts given to the scorer at once."""
_MOST_TOKENS = 256
"""Of a text that is written, where a task says nothing."""
_Pair = tuple[tuple[str, str] | None, list[int], list[int]]


@register_model("hanpaca")
class HarnessModel(TemplateLM):  # type: ignore[misc]  # read only where it is installed
    """What `lm_eval.simple_evaluate(model=...)` takes; close it, or use it as a context manager.

    ```python
    import lm_eval
    from hanpaca.steps.harness import HarnessModel

    with HarnessModel("model.q8_0.gguf") as model:
        found = lm_eval.simple_evaluate(model=model, tasks=["arc_easy"], num_fewshot=0)
    ```
    """

    def __init__(
        self,
        pretrained: str,
        *,
        adapters: Sequence[str] = (),
        context_tokens: int = 2048,
        dtype: str = "bfloat16",
        **unused: Any,  # the harness gives batch size and device to every model
    ) -> None:
        """Load a model.

        Args:
            pretrained: A folder, run or GGUF file, as the harness calls it.
            adapters: To lie on it, in order.
            context_tokens: Most of a prompt; longer ones lose their beginning, as the harness does.
            dtype: Of a folder's weights in memory.
            unused: What the harness gives to every model.

        Raises:
            ArtifactError: There is no model, or its parts do not fit each other.
        """
        super().__init__()
        del unused
        self._open = ExitStack()
        path = Path(pretrained)
        asked = Adapted(path, tuple(map(Path, adapters))) if adapters else path
        self._candidate = self._open.enter_context(ready(asked, path.name, silent, weights=False))
        self._reader = self._open.enter_context(
            open_reader(
                self._candidate.file or self._candidate.folder,
                context_tokens=context_tokens,
                dtype=dtype,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the model go, and what was made of it."""
        self._open.close()

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return end_token(self._reader.tokenizer)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without context."""
        return start_token(self._reader.tokenizer)

    @property
    def max_length(self) -> int:
        """Most tokens of a prompt and its continuation."""
        return self._reader.context_tokens

    @property
    def tokenizer_name(self) -> str:
        """Names cached answers of the harness."""
        return str(self._candidate.name).replace("/", "__")

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        **unused: Any,
    ) -> list[int]:
        """Text to ids, with a start token where the tokenizer puts one by itself."""
        del unused
        start = () if add_special_tokens is False else self._reader.start
        return [*start, *self._reader.encode(string)]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the model's own template writes it."""
        return str(
            self._reader.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[_Pair], disable_tqdm: bool = False, **unused: Any
    ) -> list[tuple[float, bool]]:
        """The log-probability of each continuation, and whether it would be written greedily."""
        del disable_tqdm, unused
        wanted: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        cut = [self._cut(context, continuation) for _, context, continuation in requests]
        for context, continuation in cut:
            wanted.setdefault(context, {})[continuation] = None
        asked = [ChoiceRequest(context, tuple(some)) for context, some in sorted(wanted.items())]
        found: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[float, bool]] = {}
        for at in range(0, len(asked), _TOGETHER):
            some = asked[at : at + _TOGETHER]
            for one, scored in zip(some, self._reader.choices(some), strict=True):
                told = zip(one.candidates, scored.log_ps, scored.greedy, strict=True)
                found |= {(one.prompt, ids): (log_p, greedy) for ids, log_p, greedy in told}
        return [found[pair] for pair in cut]

    def _cut(
        self, context: Sequence[int], continuation: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As the harness cuts what is too long: the beginning goes; a token is left to begin on."""
        ids = (*context, *continuation)[-(self.max_length + 1) :]
        at = max(len(ids) - len(continuation), 1)
        return ids[:at], ids[at:]

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-probability of whole texts, in windows that do not overlap."""
        del disable_tqdm
        totals = []
        for (text,) in [one.args for one in requests]:
            windows = utils.get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pairs = [(None, *utils.make_disjoint_window(window)) for window in windows]
            totals.append(sum(log_p for log_p, _ in self._loglikelihood_tokens(pairs)))
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What is written after each prompt, greedily.

        Raises:
            RecipeError: A task wants texts drawn by chance.
        """
        del disable_tqdm
        return [self._until(*one.args) for one in requests]

    def _until(self, context: str, choices: Mapping[str, Any]) -> str:
        if choices.get("do_sample") and choices.get("temperature", 1.0) > 0:
            raise RecipeError("this task draws its texts by chance; only greedy ones are written")
        most = int(choices.get("max_gen_toks", _MOST_TOKENS))
        until = choices.get("until") or []
        stop = [until] if isinstance(until, str) else list(until)
        ids = self.tok_encode(context)[-max(self.max_length - most, 1) :]
        return self._reader.write(ids, most, stop)
