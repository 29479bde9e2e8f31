"""The page on an address of this machine, beside the API for programs."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from hanpaca.errors import ResourceError
from hanpaca.progress import Progress, Tell, silent
from hanpaca.steps.serve import Service, address, beside, bound, listen
from hanpaca.steps.web import Models, Sampling

HOST = "127.0.0.1"
_MISSING = "the page needs Gradio: pip install 'hanpaca[web]'"
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' blob:; worker-src 'self' blob:; frame-ancestors 'none'; form-action 'self'"
)
"""What a browser may load: nothing from elsewhere, whatever an answer has in it."""
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class KeptInside:
    """Tells browsers to load nothing from elsewhere for what an application sends."""

    def __init__(self, app: Callable[[_Message, _Receive, _Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Pass on, with the headers."""

        async def with_headers(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


def mount(
    front: Any,  # noqa: ANN401  # a FastAPI or Starlette application
    models: Models,
    first: Sequence[str],
    *,
    sampling: Sampling | None = None,
    system: str | None = None,
    path: str = "/",
) -> Any:  # noqa: ANN401
    """Put the page on an application, which has to check `Host` itself; gives the application.

    Args:
        front: The application; its routes come before the page's.
        models: What can be picked.
        first: Names of the one or two that a new tab begins with.
        sampling: What the settings begin with.
        system: What the system prompt begins with.
        path: Where the page is.

    Raises:
        ResourceError: Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as error:
        raise ResourceError(_MISSING) from error
    from hanpaca.app.page import CSS, FONTS, HEAD, build, i18n

    front.add_middleware(KeptInside)
    return gradio.mount_gradio_app(
        front,
        build(models, first, sampling or Sampling(), system),
        path,
        server_name=HOST,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        show_error=False,
        max_file_size="16mb",
        i18n=i18n(),
        theme=gradio.themes.Default(font=FONTS, font_mono=["ui-monospace", "monospace"]),
        css=CSS,
        head=HEAD,
    )


def serve(
    models: Models,
    first: Sequence[str],
    *,
    port: int = 0,
    sampling: Sampling | None = None,
    system: str | None = None,
    tell: Tell = silent,
) -> None:
    """Show the page on 127.0.0.1, with OpenAI's API beside it, until the program is told to end.

    Args:
        models: What can be picked; programs can ask those that it keeps.
        first: Names of the one or two that a new tab begins with.
        port: 0 for any that is free.
        sampling: What the settings begin with.
        system: What the system prompt begins with.
        tell: Told the address.

    Raises:
        ResourceError: The port is taken, or Gradio is not installed.
    """
    service = Service(host=HOST, port=port)
    with bound(service) as listener:
        front = beside(models.engines, service, models.documents)
        mount(front, models, first, sampling=sampling, system=system)
        at = address(listener)
        tell(Progress(1, note=f"{at} for a browser, {at}/v1 for programs"))
        listen(front, listener, stop=models.stop)
