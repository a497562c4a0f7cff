"""Downloads from a server on the loopback address, or from files; no test leaves the machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pruneinit.data import download, load
from pruneinit.data.sources import SOURCES, Source
from pruneinit.errors import InputError


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes by path; can be told to break off, to ignore ranges, or to fail."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.stop_after: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        contents = self.server.files.get(self.path.lstrip("/"))
        if contents is None:
            return self.send_error(404)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0  # type: ignore[index]
        if start and start >= len(contents):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(contents) - start))
        self.end_headers()
        self.wfile.write(contents[start : self.server.stop_after])
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def md5(contents: bytes) -> str:
    return hashlib.md5(contents).hexdigest()


FILES = {"one": b"first file " * 100_000, "two": b"second"}


def tar(files: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as opened:
        for name, contents in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            opened.addfile(entry, io.BytesIO(contents))
        if link:
            entry = tarfile.TarInfo(link[0])
            entry.type, entry.linkname = tarfile.SYMTYPE, link[1]
            opened.addfile(entry)
    return packed.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, server: Server, archive: bytes, files: dict[str, bytes] = FILES) -> None:
    """Make `toy` a data set whose archive the server has."""
    server.files["toy.tar.gz"] = archive
    sums = {name: md5(contents) for name, contents in files.items()}
    source = Source("toy", sums, {f"{server.address}/toy.tar.gz": md5(archive)}, {})
    monkeypatch.setitem(SOURCES, "toy", source)


@pytest.fixture
def toy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    publish(monkeypatch, server, tar({f"toy/{name}": contents for name, contents in FILES.items()}))
    return server


def below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_an_archive_is_fetched_unpacked_and_removed(toy: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    assert download("toy", tmp_path, progress=lambda *step: seen.append(step)) == tmp_path / "toy"
    assert below(tmp_path) == ["toy/one", "toy/two"]
    assert (tmp_path / "toy" / "one").read_bytes() == FILES["one"]
    total = len(toy.files["toy.tar.gz"])
    assert seen[-1] == ("toy.tar.gz", total, total)


def test_what_is_there_is_not_fetched_again_and_what_is_damaged_is(toy: Server, tmp_path: Path) -> None:
    download("toy", tmp_path)
    download("toy", tmp_path)
    assert len(toy.asked) == 1
    (tmp_path / "toy" / "two").write_bytes(b"damaged")
    (tmp_path / "toy" / "mine").write_bytes(b"a file of the user's")
    download("toy", tmp_path)
    assert len(toy.asked) == 2
    assert (tmp_path / "toy" / "two").read_bytes() == b"second"
    assert (tmp_path / "toy" / "mine").exists()


@pytest.mark.parametrize("ranges", [True, False], ids=["server knows ranges", "server starts over"])
def test_a_broken_download_goes_on(toy: Server, tmp_path: Path, ranges: bool) -> None:
    toy.stop_after, toy.ranges = 1000, ranges
    with pytest.raises(InputError, match=r"ended after 1000 of \d+ bytes; run it again to go on"):
        download("toy", tmp_path)
    assert below(tmp_path) == ["toy.tar.gz.part"]
    toy.stop_after = None
    download("toy", tmp_path)
    assert toy.asked == [None, "bytes=1000-"]
    assert below(tmp_path) == ["toy/one", "toy/two"]


@pytest.mark.parametrize("junk", [b"x" * 500, b"x" * 10_000_000], ids=["short", "longer than the file"])
def test_junk_of_an_earlier_start_does_no_lasting_harm(toy: Server, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "toy.tar.gz.part").write_bytes(junk)
    if len(junk) == 500:
        with pytest.raises(InputError, match="expected MD5"):
            download("toy", tmp_path)
    download("toy", tmp_path)
    assert below(tmp_path) == ["toy/one", "toy/two"]


def test_another_file_than_the_published_one_is_refused(toy: Server, tmp_path: Path) -> None:
    toy.files["toy.tar.gz"] += b"!"
    with pytest.raises(InputError, match="does not serve the published file: expected MD5 .*; try a mirror"):
        download("toy", tmp_path)
    assert below(tmp_path) == []


def test_no_such_file_and_no_server(toy: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server answers 404"):
        download("toy", tmp_path, mirror=f"{toy.address}/elsewhere")
    with pytest.raises(InputError, match="cannot fetch http://127.0.0.1:1/toy.tar.gz .*; check the connection"):
        download("toy", tmp_path, mirror="http://127.0.0.1:1")
    with pytest.raises(InputError, match="cannot fetch nonsense/toy.tar.gz"):
        download("toy", tmp_path, mirror="nonsense")
    with pytest.raises(InputError, match="unknown data set to download 'imagenet'.*did you mean 'tiny-imagenet'"):
        download("imagenet", tmp_path)


def test_a_root_that_cannot_be_written(toy: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write below .*file: .*; make space or choose another data root"):
        download("toy", tmp_path / "file")


@pytest.mark.parametrize(
    "archive",
    [
        tar({"../evil": b"x"}),
        tar({"toy/../../evil": b"x"}),
        tar({}, link=("toy", "..")),
        tar({"toy/one": b"x"}, link=("toy/two", "/etc/hostname")),
        tar({"toy/one": FILES["one"]}),
        b"no archive at all",
    ],
    ids=["parent", "parent below", "link out", "link to a file", "file missing", "no archive"],
)
def test_archives_that_are_not_what_they_should_be(
    archive: bytes, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server, archive)
    with pytest.raises(InputError, match=r"toy.tar.gz"):
        download("toy", tmp_path / "root")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "root" / "toy").exists()


def test_a_zip_without_listed_files_is_put_there_in_one_step(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("tiny-imagenet-200/train/n1/images/a.JPEG", b"x")
        opened.writestr("../../evil", b"x")
    server.files["tiny-imagenet-200.zip"] = packed.getvalue()
    address = f"{server.address}/tiny-imagenet-200.zip"
    source = Source("tiny-imagenet-200", {}, {address: md5(packed.getvalue())}, {})
    monkeypatch.setitem(SOURCES, "tiny-imagenet", source)
    download("tiny-imagenet", tmp_path / "root")
    assert below(tmp_path) == ["root/tiny-imagenet-200/train/n1/images/a.JPEG"]
    download("tiny-imagenet", tmp_path / "root")
    assert len(server.asked) == 1


def test_the_real_mnist_from_files(tmp_path: Path, data_root: Path) -> None:
    folder = download("mnist", tmp_path, mirror=(data_root / "MNIST" / "raw").resolve().as_uri())
    assert folder == tmp_path / "MNIST" / "raw"
    assert len(load("mnist", tmp_path).train) == 60_000


def test_the_real_cifar100_from_an_archive(tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SOURCES["cifar100"]
    archive = tar({f"cifar-100-python/{file}": (data_root / real.folder / file).read_bytes() for file in ("meta",)})
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    source = Source(real.folder, {"meta": real.files["meta"]}, {next(iter(real.addresses)): md5(archive)}, {})
    monkeypatch.setitem(SOURCES, "cifar100", source)
    download("cifar100", tmp_path / "root", mirror=tmp_path.as_uri())
    assert below(tmp_path / "root") == ["cifar-100-python/meta"]


def test_every_source_names_all_it_reads() -> None:
    for name, source in SOURCES.items():
        sums = [*source.files.values(), *source.addresses.values(), *source.alternatives.values()]
        assert all(re.fullmatch("[0-9a-f]{32}", s) for s in sums), name
        assert len(set(source.files.values())) == len(source.files)
        assert all(address.startswith(("https://", "http://")) for address in source.addresses)
