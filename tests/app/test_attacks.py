"""No visitor reads a file of the host: raw requests to every event of the page, at every position of its inputs.

Events and positions come from the running page. One that nobody has looked at fails here until it stands in REVIEWED.
"""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import PASSWORD, SECRET, Served
from tests.app.stranger import Prey, Stranger, listen, mentioned, set_out

ASKED_MIX = "mix-recipe state mix-method number mix-picture mix-question mix-problem state"
ASKED_COMPARE = "compare-picture compare-question compare-models state"
LOOKED = "evolution-study state state"
MOVED = [f"mix-{name}-{slot}" for name in ("weight", "density") for slot in range(3)]
# What starts each event, and its inputs by id or kind. `then` and `success` follow another event.
REVIEWED = {
    *("dark.click()", "compare-stop.click()", "maths-stop.click()", "mix-stop.click()", "page.load()"),
    *("compare-ask.click()", "compare-question.submit()", "maths-ask.click()", "mix-ask.click()"),  # scripts alone
    *(f"{name}-examples.click({name}-examples)" for name in ("compare", "maths", "mix", "mix-problem")),
    *(f"{name}-samples.select()" for name in ("compare", "mix")),
    *(f"{name}-picture.upload({name}-picture state)" for name in ("compare", "mix")),
    *(f"{start}({ASKED_COMPARE})" for start in ("compare-ask.click", "compare-question.submit", "button.click")),
    *(f"{start}(maths-problem maths-models maths-expected state)" for start in ("maths-ask.click", "button.click")),
    *(f"page.then({name}-answers state)" for name in ("compare", "maths", "mix")),
    *("mix-recipe.change(mix-recipe state)", "mix-recipe.change(mix-recipe)", "mix-evolved.click(mix-recipe state)"),
    *("mix-reset.click(mix-recipe state)", "mix-group.input(mix-recipe state mix-group)"),
    *("mix-method.input()", "number.input()", "page.success(state state)", "page.then(state state)"),
    *(f"{slider}.release(mix-recipe state mix-group {slider})" for slider in MOVED),
    *(f"{start}({ASKED_MIX})" for start in ("mix-ask.click", "mix-question.submit", "mix-problem.submit")),
    *(f"page.success({ASKED_MIX})", "mix-save.click(mix-recipe state mix-method number state)"),
    "button.click(mix-recipe json mix-method number mix-picture mix-question state)",
    *("page.then(state)", "page.then(language)", "page.then(mix-recipe state mix-group state)"),
    *("page.load(browserstate)", "language.input(language)"),
    *(f"{start}({LOOKED})" for start in ("timer.tick", "evolution-study.change", "page.then")),
    *("timer.tick(evolution-study state)", "page.load(evolution-study state)", "evolution-stop.click(state)"),
    "evolution-start.click(dropdown evolution-name evolution-trials evolution-items number state)",
    "evolution-go-on.click(evolution-study evolution-trials state)",
}
WRAPPED: dict[str, Callable[[Any], Any]] = {
    "in a list": lambda file: [file],
    "in a dict": lambda file: {"image": file, "caption": None},
    "nested": lambda file: {"a": [{"b": [[file]]}]},
    "as an update": lambda file: {"__type__": "update", "value": file},
}


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prey]:
    found = set_out(tmp_path_factory.mktemp("prey"))
    listening = listen(found)
    next(listening)
    yield found
    listening.close()


class Attack:
    """Sends what it is told to many events at once, and keeps what it should not have been given."""

    def __init__(self, served: Served, prey: Prey, **headers: str) -> None:
        self.url, self.prey, self.headers = served.url, prey, headers
        self.config = json.loads(self.stranger().ask("GET", "/config").body)
        self.parts = {part["id"]: part for part in self.config["components"]}
        self.found: list[str] = []
        self.statuses: set[int] = set()
        self._seen: set[str] = set()
        self._own = threading.local()
        self._numbers = itertools.count()

    def stranger(self) -> Stranger:
        return Stranger(self.url, **self.headers)

    def called(self, part: int) -> str:
        known = self.parts.get(part)
        return "page" if known is None else known["props"].get("elem_id") or known["type"]

    def signature(self, event: dict[str, Any]) -> str:
        (part, kind), *_ = event["targets"]
        return f"{self.called(part)}.{kind}({' '.join(map(self.called, event['inputs']))})"

    def usual(self, event: dict[str, Any]) -> list[Any]:
        """What a browser would send."""
        return [self._usual(self.parts[part]) for part in event["inputs"]]

    def run(self, attempts: list[tuple[str, Callable[[Stranger], bytes]]]) -> None:
        with ThreadPoolExecutor(6) as crowd:
            list(crowd.map(lambda attempt: self._try(*attempt), attempts))

    def at_every_position(self, values: dict[str, Any]) -> list[tuple[str, Callable[[Stranger], bytes]]]:
        """An attempt for each event, position and value; also one as an input too many, or as what was selected."""
        attempts = []
        for event in self.config["dependencies"]:
            usual, called = self.usual(event), self.signature(event)
            for place, (name, value) in itertools.product(range(len(usual)), values.items()):
                data = [*usual[:place], value, *usual[place + 1 :]]
                attempts.append((f"{called} [{place}] {name}", self._sending(event, data, None)))
            name, value = next(iter(values.items()))
            if not usual:
                attempts.append((f"{called} [chosen] {name}", self._sending(event, usual, value)))
            attempts.append((f"{called} [beyond] {name}", self._sending(event, [*usual, value], None)))
        return attempts

    def _sending(self, event: dict[str, Any], data: list[Any], chosen: Any) -> Callable[[Stranger], bytes]:
        def send(stranger: Stranger) -> bytes:
            event_data = None if chosen is None else {"index": 0, "value": chosen}
            answer = stranger.event(event, data, f"stranger{next(self._numbers)}", event_data)
            self.statuses.add(answer.status)
            return answer.body

        return send

    def _try(self, told: str, attempt: Callable[[Stranger], bytes]) -> None:
        stranger = self._own.stranger = getattr(self._own, "stranger", None) or self.stranger()
        try:
            body = attempt(stranger)
            self._look(told, body)
            for path in mentioned(body) - self._seen:
                self._seen.add(path)
                self._look(f"{told}, then file=", stranger.ask("GET", f"/gradio_api/file={path}").body)
        except TimeoutError:
            self.found.append(f"{told}: no answer")

    def _look(self, told: str, body: bytes) -> None:
        what = self.prey.found_in(body)
        if what is not None:
            self.found.append(f"{told}: {what}")

    def _usual(self, part: dict[str, Any]) -> Any:
        kind, value = part["type"], part["props"].get("value")
        if kind == "json":
            one = {"weight": 1, "density": 1}
            return {"vlm": one, "ja": one}
        if part["props"].get("elem_id") in ("evolution-trials", "evolution-items"):
            return 4
        return {"state": None, "dataset": 0, "browserstate": ""}.get(kind, value)


def values(files: dict[str, Any]) -> dict[str, Any]:
    """Every file alone, and one in every wrapping."""
    return files | {f"file {how}": wrap(files["file"]) for how, wrap in WRAPPED.items()}


def test_every_event_has_been_looked_at(served: Served, prey: Prey):
    attack = Attack(served, prey)
    running = {attack.signature(event) for event in attack.config["dependencies"]}
    assert running - REVIEWED == set(), "new events: think about what may be sent to them, then add them to REVIEWED"
    assert REVIEWED - running == set(), "events that are gone"


def test_no_event_gives_a_file_away_or_fetches_an_address(served: Served, prey: Prey):
    attack = Attack(served, prey)
    attack.run(attack.at_every_position(values(prey.files())))
    assert attack.found == []
    assert prey.asked == []
    assert max(attack.statuses) < 500


def test_the_named_endpoints_give_no_file_away(served: Served, prey: Prey):
    attack = Attack(served, prey)
    attempts = []
    for event in attack.config["dependencies"]:
        usual, public = attack.usual(event), event["api_visibility"] == "public"
        sent = values(prey.files()) if public else {"file": prey.files()["file"]}
        for place, (name, value) in itertools.product(range(len(usual)), sent.items()):
            data = [*usual[:place], value, *usual[place + 1 :]]
            attempts.append((f"{event['api_name']} [{place}] {name}", _calling(event, data)))
        if not public:
            continue
        names = [p["parameter_name"] for p in _info(attack)[f"/{event['api_name']}"]["parameters"]]
        for name, (told, value) in itertools.product(names, sent.items()):
            attempts.append((f"v2 {event['api_name']} {name} {told}", _naming(event, name, names, value)))
    attack.run(attempts)
    assert attack.found == []
    assert prey.asked == []


def _info(attack: Attack) -> Any:
    return json.loads(attack.stranger().ask("GET", "/gradio_api/info").body)["named_endpoints"]


def _calling(event: dict[str, Any], data: list[Any]) -> Callable[[Stranger], bytes]:
    """By each of the routes that know events by name."""

    def send(stranger: Stranger) -> bytes:
        name, got = event["api_name"], b""
        got += stranger.post(f"/gradio_api/run/{name}", {"data": data}).body
        got += stranger.post(f"/gradio_api/api/{name}", {"data": data}).body
        return got + _followed(stranger, f"/gradio_api/call/{name}", {"data": data})

    return send


def _naming(event: dict[str, Any], bad: str, names: list[str], value: Any) -> Callable[[Stranger], bytes]:
    def send(stranger: Stranger) -> bytes:
        body = dict.fromkeys(names) | {bad: value}
        return _followed(stranger, f"/gradio_api/call/v2/{event['api_name']}", body)

    return send


def _followed(stranger: Stranger, path: str, body: Any) -> bytes:
    answer = stranger.post(path, body)
    if answer.status != 200:
        return answer.body
    event = json.loads(answer.body)["event_id"]
    return stranger.stream(f"{path}/{event}", lambda line: line.startswith((b"event: complete", b"event: error")))


def test_who_is_logged_in_reads_no_more(locked: Served, prey: Prey):
    guest = Stranger(locked.url)
    assert guest.log_in(PASSWORD).status == 200
    attack = Attack(locked, prey, Cookie=guest.headers["Cookie"])
    files = prey.files()
    some = {name: files[name] for name in ("file", "picture", "environment")}
    attack.run(attack.at_every_position(some | {"file in a list": [files["file"]]}))
    assert attack.found == []
    assert prey.asked == []


def test_without_the_password_no_event_and_no_page_answers(locked: Served, served: Served, prey: Prey):
    attack = Attack(served, prey)
    stranger = Stranger(locked.url)
    for event in attack.config["dependencies"]:
        answer = stranger.event(event, attack.usual(event), "stranger")
        assert answer.status == 401, attack.signature(event)
    gets = ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=a", "/gradio_api/heartbeat/a")
    assert {path: stranger.ask("GET", path).status for path in gets} == dict.fromkeys(gets, 401)
    assert stranger.ask("GET", "/gradio_api/file=/etc/passwd").status == 401
    assert stranger.post("/gradio_api/cancel", {"session_hash": "a", "fn_index": 4, "event_id": "a"}).status == 401
    assert stranger.ask("POST", "/gradio_api/upload", b"", **{"Content-Type": "multipart/form-data"}).status == 401
    door = stranger.ask("GET", "/")
    assert door.status == 200
    assert "merged" not in door.text
    assert '"auth_required":true' in door.text.replace(" ", "")


def test_no_request_hangs_the_server(served: Served, prey: Prey):
    attack = Attack(served, prey)
    started = time.monotonic()
    zero, fifo = prey.hangs().values()
    attack.run(attack.at_every_position({"zero": zero, "fifo": fifo, "both in a list": [zero, fifo]}))
    assert attack.found == []
    served.health()
    assert time.monotonic() - started < 60


def test_no_spelling_of_a_path_is_fetched(served: Served, prey: Prey):
    stranger, hidden = Stranger(served.url), prey.files()["file"]["path"]
    spellings = [file["path"] for file in (prey.files() | prey.hangs()).values()]
    spellings += [f"/{hidden}", f"//{hidden}", hidden.replace("/", "%2F"), hidden.replace("/", "\\")]
    spellings += [
        f"{hidden}\x00.png",
        f"/dev/shm/..{hidden}",
        "app/evovlm_app/catalogue.py",
        ".",
        "..",
        "~",
        "/proc/self/fd/0",
    ]
    for way, path in itertools.product(("file=", "file/", "proxy=", "stream/", "custom_component/"), spellings):
        answer = stranger.ask("GET", f"/gradio_api/{way}{path}", Range="bytes=0-1-2")
        assert answer.status in (403, 404), (way, path)
        assert prey.found_in(answer.body) is None, (way, path)
    for folder, path in itertools.product(("static", "assets", "svelte", "theme.css"), spellings):
        answer = stranger.ask("GET", f"/{folder}/{path}")
        assert answer.status in (400, 403, 404), (folder, path)
        assert prey.found_in(answer.body) is None, (folder, path)
    assert prey.asked == []


def test_an_upload_is_taken_where_a_picture_belongs_and_nowhere_else(served: Served, prey: Prey):
    stranger, attack = Stranger(served.url), Attack(served, prey)
    path = stranger.upload("mine.png", Path(prey.files()["picture"]["path"]).read_bytes())
    mine = {"path": path, "meta": {"_type": "gradio.FileData"}}
    web = mine | {"url": f"http://127.0.0.1:{prey.port}/x.png"}
    taken = []
    for event in attack.config["dependencies"]:
        usual = attack.usual(event)
        for place, part in enumerate(event["inputs"]):
            data = [*usual[:place], mine, *usual[place + 1 :]]
            if event["backend_fn"] and stranger.event(event, data, "uploader").status == 200:
                taken.append(attack.called(part))
            if event["backend_fn"]:
                data[place] = web
                assert stranger.event(event, data, "uploader").status in (400, 404)
    assert set(taken) == {"compare-picture", "mix-picture"}
    assert prey.asked == []


def test_an_upload_that_is_a_drawing_is_not_shown_as_one(served: Served):
    """A drawing may hold a script; Gradio would serve it as a picture once it was named in a request."""
    stranger = Stranger(served.url)
    path = stranger.upload("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    (event,) = [e for e in json.loads(stranger.ask("GET", "/config").body)["dependencies"] if e["api_name"] == "check"]
    stranger.event(event, [{"path": path, "meta": {"_type": "gradio.FileData"}}, None], "drawer")
    shown = stranger.ask("GET", f"/gradio_api/file={path}")
    assert shown.status == 200
    assert shown.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in shown.headers["content-security-policy"]


def test_the_secret_would_be_seen_if_it_were_read(served: Served, prey: Prey):
    """The test's own eyes: each of the ways in which the prey may show is told."""
    files = prey.files()
    assert prey.found_in(Path(files["file"]["path"]).read_bytes()) == "bytes"
    assert prey.found_in(Path(files["picture"]["path"]).read_bytes()) == "picture"
    assert prey.found_in(json.dumps(files["link"]).encode()) == "path"
    assert prey.found_in(f"EVOVLM_TEST_SECRET={SECRET}".encode()) == "bytes"
    assert prey.found_in(b"nothing") is None
    copy = f"/tmp/evovlm-app-x/0af/{prey.token}.txt"
    for told in ({"path": copy}, {"url": f"http://127.0.0.1/gradio_api/file={copy}"}, {"error": f"Value: {[copy]} is"}):
        assert mentioned(json.dumps(told).encode()) == {copy}
