"""What one client may upload, over plain HTTP from several addresses, and that others keep theirs."""

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio.routes import file_upload_statuses

from evovlm_app.load.setup import forget_uploads
from evovlm_app.load.upload_quota import delete_strays, weight
from evovlm_benchmarks.app_load.scenes import load_scenes
from evovlm_benchmarks.app_load.visitor import API, Visitor
from tests.app.conftest import LIMITS, Served, serve
from tests.app.seen import pictures, until

pytestmark = pytest.mark.slow  # starts servers

MEGABYTE = 1_000_000
FILES = LIMITS["hourly_files"]


def noise(megabytes: float) -> bytes:
    return secrets.token_bytes(int(megabytes * MEGABYTE))


def strays(small: Served) -> list[Path]:
    return [path for path in pictures(small).iterdir() if path.is_file()]


def test_an_upload_is_bounded_in_all_not_by_the_file(small: Served, stranger: Callable[[], Visitor]):
    one, before = stranger(), weight(pictures(small))
    refused = one.upload(*(noise(3) for _ in range(4)))
    assert refused.status_code == 413
    assert "at most 8 MB" in refused.text
    assert weight(pictures(small)) == before
    assert one.upload(noise(7)).status_code == 200


def test_an_upload_that_does_not_say_how_long_it_is_ends_where_it_is_too_long(
    small: Served, stranger: Callable[[], Visitor]
):
    one, before, heaviest = stranger(), weight(pictures(small)), 0

    def body() -> Iterator[bytes]:
        nonlocal heaviest
        for part in range(4):
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\n\r\n' % part
            for _ in range(50):
                yield noise(0.1)
                heaviest = max(heaviest, weight(pictures(small)))
            yield b"\r\n"
        yield b"--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refused = one.http.post(f"{API}/upload", content=body(), headers=headers)
    assert refused.status_code == 413
    assert heaviest - before < 9 * MEGABYTE
    assert weight(pictures(small)) == before


def test_an_upload_holds_a_bounded_number_of_files(small: Served, stranger: Callable[[], Visitor]):
    one = stranger()
    before = weight(pictures(small))
    refused = one.upload(*(noise(0.001) for _ in range(9)))
    assert (refused.status_code, refused.text) == (413, "There are too many files in this upload.")
    assert weight(pictures(small)) == before
    assert stranger().upload(*(noise(0.001) for _ in range(8))).status_code == 200


def test_an_upload_that_is_cut_off_leaves_nothing(small: Served, stranger: Callable[[], Visitor]):
    one = stranger()
    host, port = small.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), source_address=(one.address, 0)) as raw:
        head = f"POST {API}/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        raw.sendall(head.encode() + part + noise(1))
        assert until(lambda: bool(strays(small)))
    assert until(lambda: not strays(small))


def test_a_client_sends_so_much_an_hour_and_others_keep_theirs(small: Served, stranger: Callable[[], Visitor]):
    heavy, many, other = stranger(), stranger(), stranger()
    scene = load_scenes()[0]
    path = other.upload(scene.png).json()[0]
    by_bytes = [heavy.upload(noise(7)).status_code for _ in range(6)]
    by_files = [many.upload(noise(0.001)) for _ in range(FILES + 2)]
    assert by_bytes == [200] * 4 + [429] * 2
    assert [reply.status_code for reply in by_files] == [200] * FILES + [429] * 2
    assert "in an hour" in by_files[-1].text
    assert other.http.get(f"{API}/file={path}").content == scene.png
    assert other.upload(scene.png).status_code == 200
    # The same file from a client that floods does not take it from the one that had it.
    assert other.http.get(f"{API}/file={path}").status_code == 200


@pytest.mark.slow
def test_a_full_folder_takes_no_more_and_keeps_what_it_has(tmp_path: Path):
    for full in serve(tmp_path, limits={"folder_bytes": 1}):
        one = Visitor(full.url, "127.0.0.2")
        before = weight(pictures(full))
        refused = one.upload(noise(0.1))
        assert refused.status_code == 503
        assert "No more images" in refused.text
        assert weight(pictures(full)) == before > 0  # the samples are there


def test_what_lies_about_for_long_is_swept_away(tmp_path: Path):
    old, new, kept = tmp_path / "old", tmp_path / "new", tmp_path / "digest" / "old.png"
    kept.parent.mkdir()
    for path in (old, new, kept):
        path.write_bytes(b"x")
    for path in (old, kept):
        os.utime(path, (0, 0))
    delete_strays(tmp_path)
    assert (old.exists(), new.exists(), kept.exists()) == (False, True, True)


def test_progress_that_nobody_follows_is_forgotten():
    async def ask(name: str) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(file_upload_statuses.is_tracked(name), 0.01)

    # In a thread of its own: another test may have left a running event loop in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, ask("never came")).result()
    for name in ("done", "coming"):
        file_upload_statuses.append(name, "picture.png", b"x")
    file_upload_statuses.set_done("done")
    forget_uploads()
    assert list(file_upload_statuses._signals) == list(file_upload_statuses._statuses) == ["coming"]
    file_upload_statuses.set_done("coming")
    forget_uploads()
    assert not file_upload_statuses._signals
