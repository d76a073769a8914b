"""Takes secrets out of what is shown or written down."""

import re

_HIDDEN = "***"

# Up to the last @ where a colon stands before any /: a password may hold / and @ by mistake.
_IN_URL = re.compile(r"(?<=://)(?:[^/@\s]*:\S*|[^/\s]*)@")
# Proxies may be given without a scheme, as user:password@host.
_WITHOUT_SCHEME = re.compile(r"(?<![\w/.-])[\w.%+-]+:[^\s/:@]+@(?=[\w\[])")
_IN_QUERY = re.compile(
    r"([?&;][^\s=&]*(?:token|key|secret|sig|passw|pwd|auth|credential)[^\s=&]*=)[^\s&;'\"]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return `text` with *** for user and password, and for tokens and the like, in its URLs."""
    text = _IN_URL.sub(f"{_HIDDEN}@", text)
    text = _WITHOUT_SCHEME.sub(f"{_HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\1{_HIDDEN}", text)
