"""What a training says of itself is read while it writes, and after it was broken off."""

import json
from pathlib import Path

from hanpaca.steps.watch import watch


def test_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"step": step, "num_steps": 4, "loss": 3.0 - step / 2, "tokens": 64 * step, "seconds": step}
        for step in (1, 2)
    ]
    first, second = (json.dumps(row).encode() for row in rows)
    broken = b'{"step": 2}\n' + b"\xff\xfe\x00half"
    (tmp_path / "metrics.jsonl").write_bytes(
        b"\n".join([first, broken, second, b'{"step": 3, "lo'])
    )
    found = watch(tmp_path)
    assert (found.step, found.losses) == (2, (2.5, 2.0))
