"""The page in a real browser: what a person does, and what the browser asks for meanwhile."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.scripted import ANSWER

pytestmark = pytest.mark.slow
pytest.importorskip("gradio", reason="gradio is not installed (pip install 'hanpaca[web]')")
pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import (  # noqa: E402
    Browser,
    Page,
    TimeoutError,
    expect,
    sync_playwright,
)

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_WAIT = 150_000
"""Milliseconds: the machine may be busy."""
CHATS = ("first", "second")
MOST = 20_000
"""Tokens of an answer that goes on and on."""


@pytest.fixture(scope="module")
def address(scripted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a page with `short` beside `endless`, in a process of its own."""
    code = "from hanpaca.cli import main; main()"
    models = [str(scripted_folder / f"{name}.gguf") for name in ("short", "endless")]
    options = ["--port", "0", "--threads", "1", "--context-tokens", "24000"]
    temporary = {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("uploads"))}
    server = subprocess.Popen(
        [sys.executable, "-c", code, "web", *models, *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | temporary,
    )
    assert server.stderr is not None
    try:
        for line in server.stderr:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
        else:
            pytest.fail("the page did not come up")
        server.send_signal(signal.SIGINT)
        server.wait(120)
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("no browser to show the page (chromium)")
    expect.set_options(timeout=_WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS)
        yield browser
        browser.close()


class Tab:
    """A tab of a browser with the page in it."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(**({"locale": "en-US"} | options))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(_WAIT)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.box = self.page.locator("#ask textarea")
        expect(self.box).to_be_visible(timeout=_WAIT)

    def send(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def said(self, half: int, role: str) -> Any:
        """The turns of one side of one half."""
        return self.page.locator(f"#{CHATS[half]} .message.{role}")

    def click(self, half: int, label: str) -> None:
        buttons = self.page.locator(f"#{CHATS[half]}").get_by_role("button", name=label, exact=True)
        buttons.last.click()

    def status(self, half: int) -> Any:
        return self.page.locator(f"#{CHATS[half]}-status")

    def finished(self, half: int = 1) -> None:
        """Wait for the end of an answer: its rate stands, and the button sends again."""
        expect(self.status(half)).to_contain_text("a second")
        expect(self.page.locator("#ask button.submit-button")).to_be_visible(timeout=_WAIT)

    def close(self) -> None:
        """Close the tab when nothing is being written any more."""
        stop = self.page.locator("#ask button.stop-button")
        with suppress(TimeoutError):  # it may end by itself meanwhile
            if stop.is_visible():
                stop.click(timeout=2_000)
        expect(self.page.locator("#ask button.submit-button")).to_be_visible(timeout=_WAIT)
        self.context.close()

    def set_most_tokens(self, number: int) -> None:
        """Write the number where it stands, and see that the page took it: its slider moves.

        A field that has just opened may fall back to what it began with.
        """
        self.page.locator("#settings button").first.click()
        field = self.page.locator("#max_tokens input[type=number]")
        slider = self.page.locator("#max_tokens input[type=range]")
        expect(slider).to_be_visible()
        for _ in range(100):
            field.fill(str(number))
            field.blur()
            self.page.wait_for_timeout(300)
            if field.input_value() == slider.input_value() == str(number):
                return
        pytest.fail(f"{number} is not taken: {field.input_value()}, {slider.input_value()}")


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    hosts = {urlsplit(url).hostname for url in tab.asked if not url.startswith(("data:", "blob:"))}
    tab.close()
    assert hosts == {"127.0.0.1"}


def test_a_question_is_sent_and_both_models_answer_side_by_side(tab: Tab) -> None:
    tab.set_most_tokens(40)
    tab.send("画蛇添足是什么意思？")
    tab.finished()
    for half in (0, 1):
        expect(tab.said(half, "user")).to_have_text("画蛇添足是什么意思？")
    expect(tab.said(0, "bot")).to_have_text(ANSWER)
    expect(tab.said(1, "bot")).to_contain_text(f"{ANSWER}\n{ANSWER}", use_inner_text=True)
    expect(tab.box).to_have_value("")
    places = [tab.page.locator(f"#{name}").bounding_box() for name in CHATS]
    left, right = (place or {} for place in places)
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


def test_an_answer_is_seen_growing_and_can_be_stopped(tab: Tab) -> None:
    tab.set_most_tokens(MOST)
    tab.send("一")
    stop = tab.page.locator("#ask button.stop-button")
    expect(stop).to_be_visible()
    answer = tab.said(1, "bot")
    expect(answer).to_contain_text(ANSWER)
    # An answer that is stopped sooner than its rate is known never shows one.
    expect(tab.status(1)).to_contain_text("a second")
    size = len(answer.inner_text())
    grown = f"(size) => document.querySelector('#{CHATS[1]} .message.bot').innerText.length > size"
    tab.page.wait_for_function(grown, arg=size, timeout=_WAIT)
    stop.click()
    tab.finished()
    stopped = len(answer.inner_text())
    tab.page.wait_for_timeout(700)
    assert len(answer.inner_text()) == stopped < 8_000
    # The model is free at once: another question is answered.
    tab.send("二")
    expect(tab.said(0, "bot")).to_have_count(2)
    expect(tab.said(0, "bot").last).to_have_text(ANSWER)
    tab.page.locator("#ask button.stop-button").click()


def test_retry_undo_and_edit_change_the_conversation(tab: Tab) -> None:
    tab.set_most_tokens(20)
    for number, question in enumerate(("一", "二"), 1):
        tab.send(question)
        expect(tab.said(1, "bot")).to_have_count(number)
        tab.finished()
    tab.click(0, "Retry")
    tab.finished()
    expect(tab.said(0, "user")).to_have_count(2)
    expect(tab.said(0, "bot").last).to_have_text(ANSWER)
    # Whether the new answer has begun cannot be seen where it is the same; undoing counts at rest.
    tab.page.wait_for_timeout(2_000)
    tab.finished()
    tab.click(0, "Undo")
    expect(tab.said(0, "user")).to_have_count(1)
    expect(tab.said(1, "user")).to_have_count(1)
    expect(tab.box).to_have_value("二")
    tab.click(1, "Edit")
    tab.page.locator("#second textarea").fill("三")
    tab.page.locator("#second").get_by_role("button", name="Submit", exact=True).click()
    expect(tab.said(0, "user")).to_have_text("三")
    expect(tab.said(1, "user")).to_have_text("三")
    tab.finished()


def test_enter_of_an_input_method_sends_nothing(tab: Tab) -> None:
    tab.box.click()
    tab.box.fill("ni hao")
    for options in ("isComposing: true", "keyCode: 229"):
        for kind in ("keydown", "keypress"):
            tab.box.evaluate(
                "(box, kind) => box.dispatchEvent(new KeyboardEvent(kind, {key: 'Enter', "
                f"bubbles: true, cancelable: true, {options}}}))",
                kind,
            )
    # Safari tells of the Enter after the end of the word.
    tab.box.evaluate(
        "(box) => { box.dispatchEvent(new CompositionEvent('compositionend', {bubbles: true}));"
        " for (const kind of ['keydown', 'keypress']) box.dispatchEvent(new KeyboardEvent(kind, "
        "{key: 'Enter', bubbles: true, cancelable: true})); }"
    )
    tab.page.wait_for_timeout(500)
    expect(tab.box).to_have_value("ni hao")
    expect(tab.said(0, "user")).to_have_count(0)
    tab.box.press("Enter")
    expect(tab.said(0, "user")).to_have_text("ni hao")


def test_words_are_composed_by_a_real_input_method_session(tab: Tab) -> None:
    keys = tab.context.new_cdp_session(tab.page)
    tab.box.click()
    keys.send("Input.imeSetComposition", {"text": "你好", "selectionStart": 2, "selectionEnd": 2})
    keys.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "windowsVirtualKeyCode": 229})
    keys.send("Input.insertText", {"text": "你好"})
    expect(tab.box).to_have_value("你好")
    expect(tab.said(0, "user")).to_have_count(0)
    tab.page.wait_for_timeout(100)
    tab.box.press("Enter")
    expect(tab.said(0, "user")).to_have_text("你好")


@pytest.mark.parametrize(
    ("locale", "words"),
    [("zh-CN", ["模型", "新对话", "设置"]), ("zh-TW", ["模型"]), ("en-GB", ["Model", "Settings"])],
)
def test_the_language_is_the_browsers(
    locale: str, words: list[str], browser: Browser, address: str
) -> None:
    tab = Tab(browser, address, locale=locale)
    for word in words:
        expect(tab.page.locator("body")).to_contain_text(word)
    expect(tab.page.locator("#model input")).to_have_value("short")
    tab.send("一")
    rate = "每秒" if locale.startswith("zh") else "a second"
    expect(tab.status(0)).to_contain_text(rate)
    tab.close()


def test_a_conversation_is_saved_and_loaded_in_another_tab(
    tab: Tab, browser: Browser, address: str, tmp_path: Path
) -> None:
    tab.set_most_tokens(20)
    tab.send("一")
    tab.finished()
    with tab.page.expect_download() as download:
        tab.page.locator("#save").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "talk.json"
    assert json.loads(file.read_text(encoding="utf-8"))["messages"] == [
        {"role": "user", "content": "一"},
        {"role": "assistant", "content": ANSWER},
    ]
    other = Tab(browser, address)
    expect(other.said(0, "user")).to_have_count(0)  # tabs share nothing
    other.page.locator("input[type=file]").set_input_files(file)
    expect(other.said(0, "bot")).to_have_text(ANSWER)
    other.page.locator("#new").click()
    expect(other.said(0, "user")).to_have_count(0)
    expect(tab.said(0, "user")).to_have_count(1)
    other.context.close()


def test_a_tab_that_is_closed_leaves_the_models_to_the_others(
    browser: Browser, address: str, tab: Tab
) -> None:
    gone = Tab(browser, address)
    gone.set_most_tokens(MOST)
    gone.send("一")
    expect(gone.said(1, "bot")).to_contain_text(ANSWER)
    gone.context.close()
    tab.set_most_tokens(20)
    tab.send("二")
    tab.finished()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(width: int, browser: Browser, address: str) -> None:
    tab = Tab(browser, address, viewport={"width": width, "height": 844})
    tab.set_most_tokens(20)
    tab.send("一" * 200)
    tab.finished()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.context.close()
