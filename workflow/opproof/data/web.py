"""Downloads over http, https and file URLs, from servers that may not be well."""

import base64
import concurrent.futures
import http.client
import netrc
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from opproof.data.errors import AbsentError, SourceError
from opproof.data.reading import read_up_to

# How servers say that they have no such file; buckets without a listing say 403.
_ABSENT_STATUSES = (403, 404, 410)


def download(url: str, limit: int, timeout: float, patience: float) -> bytes:
    """Return what the URL serves, at most `limit` bytes.

    Raises SourceError where it can't be had: also after `timeout` seconds of silence, or `patience`
    seconds in all. User and password of ~/.netrc are sent to the URL's server alone.
    """
    return _within(patience, lambda: _download(url, limit, timeout))


def _within(seconds: float, read: Callable[[], bytes]) -> bytes:
    """Return read(), or fail after so many seconds, wherever it waits.

    In a daemon thread: a look at the clock between two reads would miss a slow name server, slow
    headers and redirects, and the exit of the process waits for other threads.
    """
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except concurrent.futures.TimeoutError as error:
        raise SourceError(f"not whole after {seconds:g} s") from error


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and to none with user and password in it."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # or urllib reads the whole body of the redirect, however long
        target = urllib.parse.urlsplit(newurl)
        if target.scheme not in ("http", "https") or "@" in target.netloc:
            return None  # the redirect's status becomes the error
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, limit: int, timeout: float) -> bytes:
    opener = urllib.request.build_opener(_WebRedirects)
    try:
        with opener.open(_request(url), timeout=timeout) as response:
            return read_up_to(response, limit)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _worded(error, timeout) from error


def _request(url: str) -> urllib.request.Request:
    """Return a request with what ~/.netrc has for the URL's server."""
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc:
        raise SourceError("no user and password in a URL; they belong in ~/.netrc")
    request = urllib.request.Request(url)
    if login := _login(parts.hostname):
        token = base64.b64encode(login.encode()).decode()
        # Unredirected: not for the server that a redirect names.
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _login(host: str | None) -> str | None:
    """Return user:password for a server that ~/.netrc names; None without, or with a faulty one."""
    try:
        user, _, password = netrc.netrc().hosts[host or ""]
    except (KeyError, OSError, ValueError, netrc.NetrcParseError):
        return None
    return f"{user}:{password}"


def _worded(error: Exception, timeout: float) -> SourceError:
    """Word what the network modules raise, without what may hold a password."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        kind = AbsentError if error.code in _ABSENT_STATUSES else SourceError
        hint = "; ~/.netrc, readable by you alone, has no login for it" if error.code == 401 else ""
        return kind(f"HTTP {error.code}{hint}")
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _worded(error.reason, timeout)
    if isinstance(error, FileNotFoundError):
        return AbsentError("no file")
    if isinstance(error, TimeoutError):
        return SourceError(f"silent for {timeout:g} s")
    if isinstance(error, OSError):
        return SourceError(error.strerror or str(error))
    if isinstance(error, http.client.IncompleteRead):
        return SourceError("cut short")
    if isinstance(error, (ValueError, http.client.InvalidURL)):
        return SourceError("not a valid URL")
    return SourceError(f"not an answer in HTTP ({type(error).__name__})")
