"""What asking an endpoint may cost: reserved before each attempt, settled after it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from hanpaca.errors import ResourceError
from hanpaca.inference.endpoint import Completion, NotOffered, Unanswered

Tokens = tuple[int, int]
"""Of prompts and of answers."""
_MILLION = 1_000_000


class BudgetSpent(ResourceError):  # noqa: N818  # nothing went wrong
    """The next attempt could go beyond what may be spent."""


@dataclass
class Budget:
    """What was spent, and what may be; for several threads."""

    input_price: float
    """Of a million tokens of prompts."""
    output_price: float
    """Of a million tokens of answers."""
    most_cost: float | None = None
    most_calls: int | None = None
    spent: Tokens = (0, 0)
    num_calls: int = 0
    _reserved: Tokens = (0, 0)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _num_open: int = 0

    def count(self, tokens: Tokens, num_calls: int) -> None:
        """Take what was spent before."""
        self.spent, self.num_calls = _sum(self.spent, tokens), self.num_calls + num_calls

    def cost(self, tokens: Tokens) -> float:
        """Of so many tokens."""
        return (tokens[0] * self.input_price + tokens[1] * self.output_price) / _MILLION

    @contextmanager
    def attempt(self, most: Tokens) -> Iterator[Callable[[Completion], Tokens]]:
        """Hold the most that an attempt can take; waits while others may give some back.

        What is handed in is settled by the tokens that the server counted, or else by `most`. An
        attempt that the server refused costs nothing; one that was not answered may have been
        worked on and costs `most`.

        Raises:
            BudgetSpent: It does not fit, and nothing that is open could make it fit.
        """
        self._reserve(most)
        taken: list[Tokens] = []

        def settle(found: Completion) -> Tokens:
            taken.append(found.num_tokens or most)
            return taken[0]

        try:
            yield settle
        except Unanswered as error:
            taken.append((0, 0) if error.refused else most)
            raise
        except NotOffered:
            taken.append((0, 0))
            raise
        except BaseException:
            taken.append(most)
            raise
        finally:
            self._release(most, taken[0] if taken else most)

    def _reserve(self, most: Tokens) -> None:
        with self._changed:
            while not self._fits(most):
                if not self._num_open:
                    raise BudgetSpent(*self._told(most))
                self._changed.wait()
            self._reserved = _sum(self._reserved, most)
            self._num_open += 1
            self.num_calls += 1

    def _release(self, most: Tokens, taken: Tokens) -> None:
        with self._changed:
            self._reserved = _sum(self._reserved, (-most[0], -most[1]))
            self.spent = _sum(self.spent, taken)
            self._num_open -= 1
            self._changed.notify_all()

    def _fits(self, most: Tokens) -> bool:
        if self.most_calls is not None and self.num_calls >= self.most_calls:
            return False
        held = _sum(_sum(self.spent, self._reserved), most)
        return self.most_cost is None or self.cost(held) <= self.most_cost

    def _told(self, most: Tokens) -> tuple[str, str]:
        if self.most_calls is not None and self.num_calls >= self.most_calls:
            return (
                f"{self.num_calls:,} calls were made, and no more may be",
                "give more {max_calls}",
            )
        spent, next_one = self.cost(self.spent), self.cost(most)
        return (
            f"{spent:.4f} of {self.most_cost:g} are spent, and the next call can cost "
            f"{next_one:.4f}",
            "give more {max_cost}",
        )


def _sum(one: Tokens, other: Tokens) -> Tokens:
    return one[0] + other[0], one[1] + other[1]
