"""A page laid out by a real browser, where there is one: its boxes, and its picture."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MEASURE = """
const page = frame.contentDocument, width = frame.clientWidth;
const scrolled = (one) => one.parentElement && one.parentElement.closest(".scroll");
const box = (one) => { const b = one.getBoundingClientRect();
  return [b.left, b.top, b.right, b.bottom]; };
const wide = [...page.body.querySelectorAll("*")].filter((one) => {
  const b = one.getBoundingClientRect();
  return !scrolled(one) && (b.right > width + 0.5 || b.left < -0.5);
}).map((one) => one.tagName + ": " + one.textContent.slice(0, 60));
const ends = (cell) => { const range = page.createRange(); range.selectNodeContents(cell);
  return range.getBoundingClientRect().right; };
const columns = [...page.querySelectorAll("table")].flatMap((table) =>
  [...table.rows[0].cells].map((head, place) => ({
    name: head.textContent,
    number: head.classList.contains("number"),
    head: ends(head),
    cells: [...table.rows].slice(1).map((row) => row.cells[place])
      .map((cell) => [cell.textContent, ends(cell)]),
  })));
const found = {wide, columns, page: page.documentElement.scrollWidth, width,
  height: page.documentElement.scrollHeight};
document.getElementById("found").textContent = JSON.stringify(found);
"""


def browser() -> str:
    """The program; the test is left out, saying so, where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no browser to lay out the page (chromium)")
    return found


def laid_out(page: str, *, width: int, folder: Path) -> dict[str, Any]:
    """What stands where on a screen of this many pixels: `wide` names what does not fit it."""
    host = _host(page, width, height=800, script=_MEASURE)
    text = _run(host, folder, "--dump-dom")
    found = re.search(r'<pre id="found">(.*?)</pre>', text, flags=re.DOTALL)
    assert found, text[-2_000:]
    measured: dict[str, Any] = json.loads(html.unescape(found[1]))
    return measured


def text_after(page: str, script: str, *, folder: Path) -> str:
    """What a script leaves in an element `found`, run on the page (`page`) when it is loaded."""
    script = (
        f'const page = frame.contentDocument, found = document.getElementById("found"); {script}'
    )
    dumped = _run(_host(page, 1100, height=800, script=script), folder, "--dump-dom")
    match = re.search(r'<pre id="found">(.*?)</pre>', dumped, flags=re.DOTALL)
    assert match, dumped[-2_000:]
    return html.unescape(match[1])


def picture(page: str, *, width: int, dark: bool, folder: Path, file: Path) -> None:
    """The page in its whole height as a PNG, to be looked at."""
    height = laid_out(page, width=width, folder=folder)["height"]
    scheme = "dark" if dark else "light"
    options = [f"--screenshot={file}", f"--window-size={max(width, 500)},{height}"]
    if dark:
        options.append("--blink-settings=preferredColorScheme=0")
    page = page.replace("color-scheme: light dark", f"color-scheme: {scheme}")
    _run(_host(page, width, height=height, script=""), folder, *options)


def _host(page: str, width: int, *, height: int, script: str) -> str:
    """A page with the other in a frame: browsers have windows no narrower than 500 pixels."""
    style = f"border: 0; width: {width}px; height: {height}px"
    return (
        '<!doctype html><meta charset="utf-8"><style>body { margin: 0 }</style>'
        f'<iframe id="frame" style="{style}" srcdoc="{html.escape(page)}"></iframe>'
        '<pre id="found"></pre><script>const frame = document.getElementById("frame");'
        f'frame.addEventListener("load", () => {{ {script} }});</script>'
    )


def _run(host: str, folder: Path, *options: str) -> str:
    file = folder / "host.html"
    file.write_text(host, encoding="utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    usual = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile)
    done = subprocess.run(
        [browser(), *usual, *options, file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout
