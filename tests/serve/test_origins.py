"""Which pages of others may use a server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from serving import Serving, converse
from websockets.exceptions import InvalidStatus

from ghostnote.runtime.errors import UsageError
from ghostnote.runtime.serve.settings import parse_origin


@pytest.mark.parametrize(
    ("allowed", "welcome", "unwelcome"),
    [
        ((), [None, "http://127.0.0.1:{port}"], ["http://127.0.0.1:1", "https://evil.example", "null", "http://["]),
        (("https://studio.example",), [None, "https://studio.example"], ["https://evil.example"]),
        (("*",), ["https://evil.example", "null"], []),
    ],
)
def test_pages_of_others_are_not_served(
    serve: Callable[..., Serving], allowed: tuple[str, ...], welcome: list[str | None], unwelcome: list[str]
) -> None:
    server = serve(allowed_origins=allowed)
    for origin in welcome:
        origin = origin and origin.format(port=server.port)
        assert server.post(b"", **({"Origin": origin} if origin else {}))[0] == 415  # an empty file is no audio
        with server.connect(origin=origin) as socket:
            assert converse(socket, b"")[-1]["type"] == "end"
    for origin in unwelcome:
        assert server.post(b"", Origin=origin)[0] == 403
        with pytest.raises(InvalidStatus, match="403"):
            server.connect(origin=origin).__enter__()


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://studio.example", "https://studio.example"),
        ("https://Studio.Example/", "https://studio.example"),
        ("https://studio.example:443", "https://studio.example"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://localhost:443", "http://localhost:443"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_an_allowed_origin_is_taken_as_browsers_send_it(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "studio.example",
        "studio.example:80",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://u@a",
        "http://[",
        "http://a:x",
    ],
)
def test_what_no_browser_sends_is_no_allowed_origin(text: str) -> None:
    with pytest.raises(UsageError, match="expected scheme://host"):
        parse_origin(text)


@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_a_name_that_was_led_to_this_machine_is_no_proof(
    serve: Callable[..., Serving], host: str, welcome: bool
) -> None:
    """DNS rebinding: a page's own name suddenly means 127.0.0.1, so that Origin and Host agree."""
    server = serve(loopback_only=True)
    place = f"{host}:{server.port}"
    assert server.post(b"", Origin=f"http://{place}", Host=place)[0] == (415 if welcome else 403)
    named = serve(loopback_only=True, allowed_origins=(f"http://{place}",))
    assert named.post(b"", Origin=f"http://{place}", Host=place)[0] == 415
