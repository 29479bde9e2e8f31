"""How the page looks, and which part of it calls what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hanpaca.app.events import Events
from hanpaca.app.words import CHINESE, WORDS
from hanpaca.steps.web import Models, Sampling

FONTS = ["system-ui", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif"]
CSS = """
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto !important; }
.chat { height: calc(100dvh - 400px) !important; min-height: 240px; }
.status { min-height: 1.5em; font-size: var(--text-sm); opacity: .75; }
@media (max-width: 640px) {
  .chat { height: calc(100dvh - 420px) !important; }
  #talks:has(#second) .chat { height: calc(50dvh - 235px) !important; min-height: 180px; }
}
"""
HEAD = """<script>
(() => {
  // Enter that ends a word of an input method is no Enter of the text. Safari sends it afterwards.
  let ended = -1000;
  addEventListener("compositionend", () => { ended = performance.now(); }, true);
  const guard = (event) => {
    if (event.key !== "Enter") return;
    const composing = event.isComposing || event.keyCode === 229;
    const after = performance.now() - ended < 60;
    if (composing || after) event.stopImmediatePropagation();
    if (after) event.preventDefault();
  };
  addEventListener("keydown", guard, true);
  addEventListener("keypress", guard, true);
})();
</script>"""
_DOWNLOAD = """(text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "talk.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""
_KEY = "hanpaca "
"""Begins what the page's words are looked up by: Gradio translates whatever equals a key, be it the
name of a model."""
_SECONDS_KEPT = 3600
"""Of an uploaded conversation."""


@dataclass
class _Parts:
    """The components that events speak of."""

    tab: Any
    pickers: list[Any]
    chats: list[Any]
    statuses: list[Any]
    second: Any
    box: Any
    settings: list[Any]

    @property
    def shown(self) -> list[Any]:
        """In the order of `Shown`."""
        return [self.tab, self.box, *self.chats, *self.statuses]


def i18n() -> Any:  # noqa: ANN401  # a class of Gradio's
    """The page's words by the browser's language."""
    english = {_KEY + key: word for key, word in WORDS["en"].items()}
    chinese = {_KEY + key: word for key, word in WORDS["zh"].items()}
    return gr.I18n(en=english, **dict.fromkeys(CHINESE, chinese))


def _word(key: str) -> Any:  # noqa: ANN401
    """What is looked up in the browser."""
    return i18n()(_KEY + key)


def build(models: Models, first: Sequence[str], sampling: Sampling, system: str | None) -> Any:  # noqa: ANN401
    """The page as Gradio's Blocks, to be mounted; see `hanpaca.app.web.mount`.

    Args:
        models: What can be picked.
        first: Names of the one or two that a new tab begins with.
        sampling: What the settings begin with.
        system: What the system prompt begins with.
    """
    kept = (_SECONDS_KEPT, _SECONDS_KEPT)
    with gr.Blocks(
        title="hanpaca", analytics_enabled=False, delete_cache=kept, fill_width=True
    ) as blocks:
        tab = gr.State(None)
        with gr.Row():
            pickers = _pickers(models.names, first)
        with gr.Row(elem_id="talks"):
            with gr.Column(min_width=300):
                left, left_status = _chat("first")
            with gr.Column(min_width=300, visible=len(first) > 1) as second:
                right, right_status = _chat("second")
        box = gr.Textbox(
            placeholder=_word("ask"),
            show_label=False,
            lines=1,
            max_lines=8,
            submit_btn=True,
            stop_btn=False,
            autofocus=True,
            elem_id="ask",
        )
        with gr.Row():
            new = gr.Button(_word("new"), size="sm", elem_id="new", min_width=80)
            save = gr.Button(_word("save"), size="sm", elem_id="save", min_width=80)
            load = gr.UploadButton(
                _word("load"), file_types=[".json"], size="sm", elem_id="load", min_width=80
            )
        with gr.Accordion(_word("settings"), open=False, elem_id="settings"):
            settings = _settings(sampling, system, models.context_tokens)
        statuses = [left_status, right_status]
        parts = _Parts(tab, pickers, [left, right], statuses, second, box, settings)
        _wire(blocks, parts, Events(models, first))
        _wire_files(parts, Events(models, first), save=save, load=load, new=new)
    return blocks


def _pickers(names: Sequence[str], first: Sequence[str]) -> list[Any]:
    one = gr.Dropdown(
        list(names), value=first[0], label=_word("model"), elem_id="model", min_width=120
    )
    chosen = first[1] if len(first) > 1 else ""
    none = [("—", "")]
    other = gr.Dropdown(
        [*none, *((name, name) for name in names)],
        value=chosen,
        label=_word("beside"),
        elem_id="beside",
        min_width=120,
    )
    return [one, other]


def _chat(name: str) -> tuple[Any, Any]:
    """A conversation and the line below it."""
    chat = gr.Chatbot(
        label=_word(name),
        show_label=False,
        elem_id=name,
        elem_classes="chat",
        editable="user",
        buttons=["copy"],
        latex_delimiters=[],
        allow_tags=False,
        feedback_options=None,
        placeholder=_word("empty"),
    )
    return chat, gr.Markdown("", elem_id=f"{name}-status", elem_classes="status")


def _settings(sampling: Sampling, system: str | None, context_tokens: int) -> list[Any]:
    """The system prompt, then the fields of `Sampling` in their order."""

    def slider(key: str, low: float, high: float, step: float) -> Any:  # noqa: ANN401
        info = _word(f"{key}_info") if f"{key}_info" in WORDS["en"] else None
        value = getattr(sampling, key)
        return gr.Slider(
            low, max(high, value), value, step=step, label=_word(key), info=info, elem_id=key
        )

    prompt = gr.Textbox(system or "", label=_word("system"), lines=2, elem_id="system")
    with gr.Row():
        tokens = slider("max_tokens", 1, context_tokens, 1)
        temperature = slider("temperature", 0, 2, 0.05)
    with gr.Row():
        top_k, top_p = slider("top_k", 0, 200, 1), slider("top_p", 0.01, 1, 0.01)
        min_p, penalty = slider("min_p", 0, 1, 0.01), slider("repeat_penalty", 0.5, 2, 0.05)
    seed = gr.Number(
        sampling.seed, precision=0, minimum=0, label=_word("seed"), info=_word("seed_info")
    )
    return [prompt, tokens, temperature, top_k, top_p, min_p, penalty, seed]


def _wire(blocks: Any, parts: _Parts, events: Events) -> None:  # noqa: ANN401
    """Everything that asks and stops."""
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    # What waits for an answer to end must not wait for another tab's, too.
    quiet["concurrency_limit"] = None
    asking = {"concurrency_id": "asking", **quiet}
    given = [parts.tab, *parts.settings]
    blocks.load(events.start, None, [parts.tab], **quiet)
    asked = [
        parts.box.submit(events.ask, [parts.tab, parts.box, *parts.settings], parts.shown, **asking)
    ]
    for half, chat in enumerate(parts.chats):
        asked.append(chat.retry(events.retry, given, parts.shown, **asking))
        asked.append(chat.edit(_edited(events, half), given, parts.shown, **asking))
    for one in asked:
        one.then(events.rest, [parts.tab], [parts.tab, parts.box, *parts.shown[2:]], **quiet)
    parts.box.stop(None, cancels=asked, **quiet)
    for chat in parts.chats:
        chat.undo(events.undo, [parts.tab], parts.shown, cancels=asked, **quiet)
        chat.clear(events.clear, [parts.tab], parts.shown, cancels=asked, **quiet)
    for picker in parts.pickers:
        outputs = [parts.tab, parts.second, *parts.shown[2:]]
        inputs = [parts.tab, *parts.pickers]
        picker.input(events.pick, inputs, outputs, cancels=asked, **quiet)


def _wire_files(parts: _Parts, events: Events, *, save: Any, load: Any, new: Any) -> None:  # noqa: ANN401
    """Everything that keeps a conversation, brings one back, or begins one."""
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    text = gr.Textbox(visible="hidden", elem_id="saved")
    save.click(events.save, [parts.tab], [text], **quiet).then(
        None, [text], None, js=_DOWNLOAD, **quiet
    )
    outputs = [parts.tab, parts.settings[0], *parts.shown[2:]]
    load.upload(events.load, [parts.tab, load], outputs, **quiet)
    new.click(events.clear, [parts.tab], parts.shown, **quiet)


def _edited(events: Events, half: int) -> Any:  # noqa: ANN401
    """What is called when a message of one half was changed."""

    def edited(change: gr.EditData, tab: Any, *settings: Any) -> Any:  # noqa: ANN401
        yield from events.edit(tab, half, change.index, str(change.value), settings)

    return edited
