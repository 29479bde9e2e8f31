"""Rows in files that are appended to, so that they can be gone on with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hanpaca.data.generating.judging import Dropped, RowJudge
from hanpaca.data.generating.talks import MadeRow
from hanpaca.data.jsonl import appended_rows

_ROWS, _DROPPED = "rows.jsonl", "dropped.jsonl"


class RowFiles:
    """Rows that are judged and appended to files; those that are there already are passed over."""

    def __init__(self, folder: Path, judge: RowJudge, provenance: Mapping[str, str]) -> None:
        self.judge, self._provenance = judge, provenance
        self._files = {name: folder / name for name in (_ROWS, _DROPPED)}
        self._left = {
            name: sum(1 for _ in appended_rows(file)) for name, file in self._files.items()
        }
        self.num_judged = 0
        self.first: dict[str, Any] | None = None

    def add(self, row: MadeRow, asked: Sequence[str]) -> None:
        """Judge a row, and write where it belongs."""
        self.num_judged += 1
        dropped = self.judge.judge(row)
        tree = self._tree(row, asked)
        if dropped is None:
            self.first = self.first or tree
            self._append(_ROWS, tree)
        else:
            self._append(_DROPPED, _account(dropped, tree))

    def _tree(self, row: MadeRow, asked: Sequence[str]) -> dict[str, Any]:
        messages = [
            {"role": "user", "content": row.instruction},
            {"role": "assistant", "content": row.answer},
        ]
        origin = {**self._provenance, "mode": self.judge.settings.mode, **row.drawn}
        return {"messages": messages, "provenance": {**origin, "calls": list(asked)}}

    def _append(self, name: str, tree: Mapping[str, Any]) -> None:
        if self._left[name]:
            self._left[name] -= 1
            return
        with self._files[name].open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(tree, ensure_ascii=False) + "\n")


def _account(dropped: Dropped, tree: Mapping[str, Any]) -> dict[str, Any]:
    return {"reason": dropped.reason, "detail": dropped.detail, "row": tree}
