"""Makes docs/pictures: python -m docs.make.pictures WORK, from the root.

WORK is the folder that the notebooks 1 and 2 wrote. The report is that of the demo's stored
results. Needs chromium, playwright and the extras `web` and `report`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, sync_playwright

from docs.make.recording import record
from hanpaca.evals.results import read_results
from hanpaca.report.run_page import write_report

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
QUESTION = "成语“画蛇添足”是什么意思？"
COMMANDS = (
    "hanpaca inspect grown --adapter adapter --adapter chat-adapter",
    "hanpaca merge --base grown --adapter adapter --adapter chat-adapter -o chat",
    "hanpaca gguf write chat -o files --types q4_k_m",
    f'hanpaca chat files "{QUESTION}"',
)


def main(work: Path) -> None:
    """Make all of them."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as name, _browser() as browser:
        folder = Path(name)
        for part in ("grown", "adapter", "chat-adapter"):
            (folder / part).symlink_to((work / part).resolve())
        svg = record(COMMANDS, folder, "hanpaca: from a base and two LoRA to a talk")
        (PICTURES / "terminal.svg").write_text(svg, encoding="utf-8")
        _picture_web(browser, folder / "files")
        report = folder / "report.html"
        write_report(read_results(ROOT / "benchmarks/results/demo.json"), report)
        page = browser.new_page(viewport={"width": 960, "height": 900})
        page.goto(report.as_uri())
        page.screenshot(path=PICTURES / "report.png")


@contextmanager
def _browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


def _picture_web(browser: Browser, model: Path) -> None:
    """The page while an answer is written: its text so far, and below it the rate."""
    with _served(model) as address:
        page = browser.new_page(viewport={"width": 960, "height": 640}, locale="zh-CN")
        page.goto(address)
        box = page.locator("#ask textarea")
        box.fill(QUESTION)
        box.press("Enter")
        page.locator("#first .message.bot").first.wait_for(timeout=120_000)
        page.wait_for_function(
            "document.querySelector('#first-status').textContent.trim().length > 0", timeout=120_000
        )
        page.wait_for_timeout(1_000)
        page.screenshot(path=PICTURES / "web.png")


@contextmanager
def _served(model: Path) -> Iterator[str]:
    """The address of a page for a model, in a process of its own."""
    command = [sys.executable, "-m", "hanpaca", "web", str(model), "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    ) as server:
        told = (re.search(r"http://\S+", line) for line in server.stderr or ())
        yield next(found[0] for found in told if found)
        server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
