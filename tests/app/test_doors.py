"""Who may ask the app anything: names, origins, passwords, and requests that no client would send."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from evovlm.system.errors import UserError
from evovlm_app.protection.allowed_hosts import Hosts, check_host
from evovlm_app.protection.login_pause import FREE, LONGEST, REMEMBERED, LoginPause
from tests.app.conftest import PASSWORD, Served, serve
from tests.app.stranger import JSON, Stranger

pytestmark = pytest.mark.slow  # starts servers

TRACES = (b"Traceback", b"Internal Server Error", b'.py"', b"/site-packages/", b"evovlm-app-")
PAGES = ("/", "/config", "/healthz", "/gradio_api/info", "/gradio_api/file=x", "/assets/x")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from serve(tmp_path_factory.mktemp("named"), "--host", "0.0.0.0", "--allow-host", "breed.example")


def raw(served: Served, head: str) -> bytes:
    """What comes back for a request whose head is written by hand."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        peer.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
        got = b""
        while piece := peer.recv(65536):
            got += piece
    return got


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "8.8.8.8"]
)
def test_a_stranger_s_name_for_this_server_is_refused_on_every_page(served: Served, host: str):
    stranger = Stranger(served.url, Host=host)
    for page in PAGES:
        answer = stranger.ask("GET", page)
        assert answer.status == 403, page
        assert "--allow-host" in answer.text
        assert host not in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert stranger.post("/gradio_api/queue/join", {}).status == 403


@pytest.mark.parametrize("line", ["", "Host:\n", "Host: a b\n", "Host: 127.0.0.1@evil.example\n", "Host: [::1\n"])
def test_no_name_and_a_torn_one_are_refused(served: Served, line: str):
    assert raw(served, f"GET /config HTTP/1.0\n{line}Connection: close").split()[1] in (b"400", b"403")


def test_a_name_to_answer_to_must_be_a_host_name():
    for name in (
        "demo.example.org",
        "DEMO.example",
        "my_container",
        "10.0.0.1",
        "[::1]",
        "2001:db8::1",
        "xn--r8",
    ):
        check_host(name)
    for name in (
        "http://demo.example",
        "demo.example:7860",
        "a b",
        "a..b",
        "-a",
        "*",
        "例え",
        "a/b",
        f"{'a' * 64}.b",
        "[red]",
        "[x",
        "::1[",
        "[demo.example]",
        "x" * 100_000,
    ):
        with pytest.raises(UserError, match=r"--allow-host: .* is no host name; give a name such as") as told:
            check_host(name)
        assert len(str(told.value)) < 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "127.5.5.5"])
def test_loopback_is_answered_by_whatever_port(served: Served, host: str):
    assert Stranger(served.url, Host=host).ask("GET", "/healthz").status == 200


def test_the_proxy_s_headers_are_believed_only_for_names_that_are_known(served: Served):
    assert Stranger(served.url, **{"X-Forwarded-Host": "evil.example"}).ask("GET", "/").status == 403
    answer = Stranger(served.url, **{"X-Gradio-Server": "http://evil.example"}).ask("GET", "/")
    assert answer.status == 200
    assert b"evil.example" not in answer.body


def test_names_that_the_operator_gives_and_the_machine_s_own_are_answered(named: Served):
    own = socket.gethostname()
    for host in ("breed.example", "BREED.example:8443", "127.0.0.1", own):
        assert Stranger(named.url, Host=host).ask("GET", "/healthz").status == 200, host
    assert Stranger(named.url, Host="other.example").ask("GET", "/healthz").status == 403
    forwarded = {"X-Forwarded-Host": "breed.example", "Origin": "https://breed.example"}
    assert Stranger(named.url, **forwarded).post("/gradio_api/reset", {"event_id": "a"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_other_origins_change_nothing_and_upload_nothing(served: Served, headers: dict[str, str]):
    stranger = Stranger(served.url, **headers)
    for page in ("queue/join", "run/predict", "call/maths", "cancel", "upload"):
        answer = stranger.post(f"/gradio_api/{page}", {"data": []})
        assert answer.status == 403, page
        assert "another site" in answer.text
    if "Origin" in headers:  # it may not read either
        assert stranger.ask("GET", "/config").status == 403
        assert stranger.ask("OPTIONS", "/gradio_api/upload").status in (403, 405)


def test_the_page_s_own_origin_is_no_stranger(served: Served):
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert Stranger(served.url, **own).post("/gradio_api/reset", {"event_id": "a"}).status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("POST", f"/gradio_api/{path}")
            for path in ("component_server", "process_recording", "vibe-edit", "vibe-code")
        ),
        *(("POST", f"/gradio_api/{path}") for path in ("stream/abc", "stream/abc/close", "run-history/connect")),
        *(("GET", f"/gradio_api/{path}") for path in ("dev/reload", "vibe-code", "startup-events", "token", "app_id")),
        *(("GET", f"/gradio_api/{path}") for path in ("deep_link?session_hash=a", "runs", "openapi.json", "user")),
        *(("GET", f"/gradio_api/{path}") for path in ("custom_component/a/client/b/c", "queue/status", "mcp/sse")),
        *(("GET", path) for path in ("/monitoring", "/monitoring/summary", "/monitoring/a", "/docs", "/openapi.json")),
        *(("GET", path) for path in ("/svelte/x", "/pwa_icon", "/manifest.json", "/logout", "/login", "/no/such")),
        ("POST", "/login"),
    ],
)
def test_what_the_page_does_not_need_is_not_there(served: Served, method: str, path: str):
    answer = Stranger(served.url).ask(method, path, b"{}" if method == "POST" else None, **JSON)
    assert answer.status in (404, 405)
    assert answer.text


def bodies() -> dict[str, bytes]:
    """Bodies that no client sends."""
    whole: dict[str, Any] = {"data": ["zoo-vlm"], "fn_index": 46, "session_hash": "abc", "trigger_id": None}
    odd = {
        "number -1": {"fn_index": -1},
        "number 999": {"fn_index": 999},
        "number 1e30": {"fn_index": 10**30},
        "number as text": {"fn_index": "4"},
        "number true": {"fn_index": True},
        "number 4.0": {"fn_index": 4.5},
        "no inputs": {"data": None},
        "inputs as text": {"data": "x"},
        "inputs as object": {"data": {"0": "x"}},
        "too few": {"data": []},
        "too many": {"data": ["zoo-vlm"] * 9},
        "deep": {"data": [json.loads("[" * 200 + "]" * 200)]},
        "infinite": {"data": [float("inf")]},
        "400 digits": {"data": [10**400]},
        "surrogate": {"data": ["\ud800"]},
        "session as number": {"session_hash": 5},
        "session as list": {"session_hash": ["a"]},
        "session too long": {"session_hash": "a" * 1000},
        "session a path": {"session_hash": "../../etc"},
        "session empty": {"session_hash": ""},
        "trigger as text": {"trigger_id": "x"},
        "trigger unknown": {"trigger_id": 10**6},
    }
    found = {name: json.dumps(whole | change).encode() for name, change in odd.items()}
    plain = {"nothing": b"", "no JSON": b"{", "a list": b"[]", "a number": b"7", "null": b"null", "bytes": b"\xff\xfe"}
    deep = {"deepest": b"[" * 100_000, "digits": b'{"fn_index": ' + b"9" * 10_000 + b"}", "long": b" " * 300_000}
    return found | plain | deep


@pytest.mark.parametrize("path", ["queue/join", "run/predict", "api/predict", "call/maths", "call/v2/maths", "cancel"])
def test_a_body_that_cannot_be_gets_a_sentence(served: Served, path: str):
    stranger = Stranger(served.url)
    for name, body in bodies().items():
        answer = stranger.ask("POST", f"/gradio_api/{path}", body, **JSON)
        assert 400 <= answer.status < 500, (name, answer)
        assert len(json.loads(answer.body)["detail"]) > 10, name
        assert not any(trace in answer.body for trace in TRACES), name
    assert stranger.ask("POST", f"/gradio_api/{path}", b"{}").status == 415


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=x", b"no form"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\ntext\r\n--x--\r\n',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="files"; filename=".."\r\n\r\na\r\n--x--',
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
        ("application/json", b"{}"),
        ("", b""),
    ],
)
def test_an_upload_that_is_none_gets_a_sentence(served: Served, kind: str, body: bytes):
    answer = Stranger(served.url).ask("POST", "/gradio_api/upload", body, **{"Content-Type": kind})
    assert 400 <= answer.status < 500
    assert not any(trace in answer.body for trace in TRACES)


@pytest.mark.parametrize(
    "path",
    [
        "/?page=nowhere",
        "/?deep_link=abc",
        "/config?page=nowhere&deep_link=../x",
        "/gradio_api/queue/data",
        "/gradio_api/queue/data?session_hash=",
        "/gradio_api/queue/data?session_hash=nobody",
        "/gradio_api/call/maths/nobody",
        "/gradio_api/upload_progress",
        "/static/%00",
        "/assets/" + "a" * 4000,
        "/gradio_api/file=" + "a/" * 3000,
    ],
)
def test_no_address_is_answered_with_an_error_of_the_server(served: Served, path: str):
    answer = Stranger(served.url).ask("GET", path)
    assert answer.status < 500
    assert b"Traceback" not in answer.body


def test_sentences_are_in_the_visitor_s_language(served: Served):
    answer = Stranger(served.url, **{"Accept-Language": "ja"}).post("/gradio_api/queue/join", {"fn_index": 999})
    assert "ません" in json.loads(answer.body)["detail"]


def test_a_number_that_no_float_holds_is_refused_wherever_a_number_belongs(served: Served):
    stranger = Stranger(served.url)
    events = json.loads(stranger.ask("GET", "/config").body)["dependencies"]
    (start,) = [event for event in events if event["api_name"] == "start"]
    (mix,) = [event for event in events if event["api_name"] == "mix"]
    for number in (10**400, -(10**400), 1e308):
        assert stranger.event(start, ["zoo-vlm", "x", number, 4, 0, None], "counter").status == 400
        assert stranger.event(mix, ["zoo-vlm", {"a": number}, "ties", 0, None, "", None], "counter").status == 400


def test_a_value_that_is_no_choice_is_not_repeated(served: Served):
    stranger, odd = Stranger(served.url), "odd-value-7f3a"
    (event,) = [e for e in json.loads(stranger.ask("GET", "/config").body)["dependencies"] if e["api_name"] == "show_2"]
    answer = stranger.event(event, ["1+1", [odd], "2", None], "chooser")
    assert "not among the choices" in answer.text
    assert odd not in answer.text


@pytest.mark.slow
def test_wrong_passwords_slow_down_who_gives_them_and_nobody_else(locked: Served):
    guesser, started, statuses = Stranger(locked.url, source="127.0.0.9"), time.monotonic(), []
    for number in range(50):
        answer = guesser.log_in(f"guest:wrong{number}")
        statuses.append(answer.status)
        if answer.status == 429:
            assert int(answer.headers["retry-after"]) > 0
            assert "wait" in json.loads(answer.body)["detail"]
    tried = statuses.count(400)
    # At the pace of a script: three at once, then one after 1, 2, 4 ... seconds.
    assert tried <= FREE + 1 + max(0, int(time.monotonic() - started).bit_length())
    assert statuses[-1] == 429
    assert guesser.log_in(PASSWORD).status == 429, "what is right is not found out by trying on"
    # A header does not make another client of it.
    assert Stranger(locked.url, "127.0.0.9", **{"X-Forwarded-For": "9.9.9.9"}).log_in("guest:x").status == 429
    assert Stranger(locked.url, source="127.0.0.8").log_in(PASSWORD).status == 200


def test_one_visitor_who_logs_out_leaves_the_others_in(locked: Served):
    one, two = Stranger(locked.url, source="127.0.0.6"), Stranger(locked.url, source="127.0.0.7")
    assert one.log_in(PASSWORD).status == two.log_in(PASSWORD).status == 200
    one.ask("GET", "/logout")
    assert one.ask("GET", "/config").status == 401
    assert two.ask("GET", "/config").status == 200


def test_the_pause_doubles_is_bounded_and_forgotten():
    now = [0.0]
    pause = LoginPause(lambda: now[0])
    waits = []
    for _ in range(FREE + 10):
        while wait := pause.wait("10.0.0.1"):
            waits.append(wait)
            now[0] += wait
    assert waits == [1, 2, 4, 8, 16, 32, *[int(LONGEST)] * 4]
    assert pause.wait("10.0.0.2") == 0
    pause.forgive("10.0.0.1")
    assert [pause.wait("10.0.0.1") for _ in range(FREE)] == [0] * FREE
    assert pause.wait("10.0.0.1") > 0


def test_a_household_of_ipv6_is_one_client_and_memory_is_bounded():
    pause = LoginPause(lambda: 0.0)
    assert [bool(pause.wait(f"2001:db8::{host:x}")) for host in range(FREE + 1)] == [False] * FREE + [True]
    for number in range(REMEMBERED + 100):
        pause.wait(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(pause._clients) == REMEMBERED


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:7860", True),
        ("[::1]:7860", True),
        ("192.0.2.7:80", True),
        ("breed.example.", True),
        ("xbreed.example", False),
        ("user@breed.example", False),
        ("breed.example/evil", False),
        ("breed.example:99999", False),
        ("", False),
    ],
)
def test_names_are_compared_whole(host: str, known: bool):
    assert Hosts("192.0.2.7", ["Breed.example"]).knows(host) is known
