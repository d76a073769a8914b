"""What is shown of a text that may hold secrets."""

import pytest

from opproof.redaction import redact

REDACTED = {
    "http://me:SECRET@host/x": "http://***@host/x",
    "http://SECRET@host:80/x": "http://***@host:80/x",
    "http://me:SEC/RET@host": "http://***@host",
    "http://me:SEC@RET@host": "http://***@host",
    "HTTPS://me:1#SECRET@host is down": "HTTPS://***@host is down",
    "at http://a:SECRET@h/, http://b:SECRET@i/": "at http://***@h/, http://***@i/",
    "socks5h://me:SECRET@[::1]:1080": "socks5h://***@[::1]:1080",
    "me:SECRET@proxy.example.org:3128": "***@proxy.example.org:3128",
    "'me:SECRET@host/x'": "'***@host/x'",
    "https://host/x?token=SECRET": "https://host/x?token=***",
    "https://host/x?a=1&api_key=SECRET&b=2": "https://host/x?a=1&api_key=***&b=2",
    "https://host/?X-Amz-Signature=SECRET'": "https://host/?X-Amz-Signature=***'",
    "?sig=SECRET;Password=SECRET": "?sig=***;Password=***",
    "?client_secret=SECRET ?Access-Token=SECRET": "?client_secret=*** ?Access-Token=***",
}
UNCHANGED = [
    "",
    "images: HTTP 404",
    "https://host:8080/a/b.gz?page=2&size=3",
    "file:///home/me/mnist, /home/me@site/x",
    "/usr/bin:/opt/gcc@12/bin",
    "bin/tools:gcc@12/bin",
    "git@github.com:me/x.git",
    "12:30 me@example.org",
    "key=value; token = text",
]


@pytest.mark.parametrize(("text", "shown"), REDACTED.items())
def test_secrets_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("text", UNCHANGED)
def test_the_rest_is(text: str) -> None:
    assert redact(text) == text
