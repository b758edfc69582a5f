"""What one client may have waiting, open and remembered: plain HTTP from several addresses; others do not feel it."""

import http.client
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from evovlm_app.cards import HINT
from evovlm_app.load.clients import network
from evovlm_app.load.fair_queue import in_turns
from evovlm_app.words import say
from evovlm_benchmarks.app_load.scenes import load_scenes
from evovlm_benchmarks.app_load.visitor import API, MODELS, Visitor, picture
from tests.app.conftest import LIMITS, Served
from tests.app.seen import ended, session, until

pytestmark = pytest.mark.slow  # starts servers

WAITING, STREAMS, SESSIONS = LIMITS["waiting"], LIMITS["streams"], LIMITS["sessions"]
PROBLEM = ["1+1は?", ["ja"], "", None]


@pytest.fixture(scope="module")
def functions(stranger: Callable[[], Visitor]) -> dict[str, int]:
    return stranger().functions()


def clicked(visitor: Visitor, button: str) -> int:
    """The number of the page's function that answers when a button is pressed."""
    config = visitor.http.get("/config").json()
    [part] = [part["id"] for part in config["components"] if part["props"].get("elem_id") == button]
    [found] = [one["id"] for one in config["dependencies"] if [part, "click"] in one["targets"] and one["queue"]]
    return int(found)


@pytest.mark.slow
def test_one_client_has_a_bounded_number_of_places_whatever_its_sessions(
    small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]
):
    one, other = stranger(), stranger()
    replies = [one.join(functions["maths"], PROBLEM, session()) for _ in range(WAITING + 3)]
    assert [reply.status_code for reply in replies] == [200] * WAITING + [429] * 3
    assert "too many questions waiting" in replies[-1].json()["detail"]
    assert other.ask(functions["maths"], PROBLEM)[0][0]["state"] == "done"


def test_places_are_counted_for_calls_as_well(small: Served, stranger: Callable[[], Visitor]):
    one = stranger()
    replies = [one.http.post(f"{API}/call/maths", json={"data": PROBLEM[:3]}) for _ in range(WAITING + 1)]
    assert [reply.status_code for reply in replies] == [200] * WAITING + [429]


def test_clients_take_turns_however_many_questions_each_has(
    small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]
):
    greedy, modest, own = stranger(), stranger(), session()
    for _ in range(WAITING):
        greedy.join(functions["maths"], PROBLEM, own)
    done: list[str] = []
    messages = greedy.listen(own)

    def count() -> None:
        done.extend("greedy" for message in messages if message["msg"] == "process_completed")

    assert next(message for message in messages if message["msg"] == "process_starts")
    counting = threading.Thread(target=count)
    counting.start()
    modest.ask(functions["maths"], PROBLEM)
    before = len(done)
    counting.join(60)
    assert len(done) == WAITING
    assert before <= 2  # the one that ran, and one that may have ended while this was told


def test_the_place_that_is_told_is_the_place_in_turn(
    small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]
):
    greedy, modest, own, late = stranger(), stranger(), session(), session()
    for _ in range(WAITING):
        greedy.join(functions["maths"], PROBLEM, own)
    messages = greedy.listen(own)
    assert next(message for message in messages if message["msg"] == "process_starts")
    modest.join(functions["maths"], PROBLEM, late)
    places = [message for message in modest.listen(late) if message["msg"] == "estimation"]
    assert any(message["rank"] == 0 and message["queue_size"] > 1 for message in places)
    list(messages)


def test_what_nobody_listens_to_is_never_run(small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]):
    assert until(lambda: small.health()["waiting"] == 0)
    before, one = len(ended(small)), stranger()
    for _ in range(WAITING - 1):
        assert one.join(functions["maths"], PROBLEM, session()).status_code == 200
    assert one.http.post(f"{API}/call/maths", json={"data": PROBLEM[:3]}).status_code == 200
    assert until(lambda: small.health()["waiting"] == 0, LIMITS["heard_within"] + 20)
    assert len(ended(small)) == before
    one.ask(functions["maths"], PROBLEM)  # its places are free again
    assert len(ended(small)) == before + 1


def test_a_call_is_answered_to_whoever_fetches_it(small: Served, stranger: Callable[[], Visitor]):
    one = stranger()
    event = one.http.post(f"{API}/call/maths", json={"data": PROBLEM[:3]}).json()["event_id"]
    with one.http.stream("GET", f"{API}/call/maths/{event}") as reply:
        told = reply.read().decode()
    assert "event: complete" in told


def test_who_stops_listening_loses_what_waits_and_what_runs(
    small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]
):
    assert until(lambda: small.health()["waiting"] == 0)
    before, one, own = len(ended(small)), stranger(), session()
    show = clicked(one, "compare-ask")  # the page's own, which writes as the answer grows
    scene = load_scenes()[0]
    question = [picture(one.upload(scene.png).json()[0]), scene.question, MODELS, None]
    for _ in range(WAITING):
        assert one.join(show, question, own).status_code == 200
    with one.http.stream("GET", f"{API}/queue/data", params={"session_hash": own}) as reply:
        for line in reply.iter_lines():
            if "process_generating" in line:
                break
    assert until(lambda: small.health()["waiting"] == 0)
    assert until(lambda: len(ended(small)) > before)
    time.sleep(1)
    assert ended(small)[before:] == ["left"]


def test_no_model_is_had_past_the_line(small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]):
    one, before = stranger(), len(ended(small))
    for name in ("maths", "predict"):
        body = {"data": PROBLEM, "fn_index": functions["maths"], "session_hash": session()}
        assert one.http.post(f"{API}/run/{name}", json=body).is_error
    assert len(ended(small)) == before


# Streams and sessions


def test_one_client_has_a_bounded_number_of_streams(small: Served, stranger: Callable[[], Visitor]):
    one, other = stranger(), stranger()
    host, port = small.url.removeprefix("http://").split(":")
    beats = [http.client.HTTPConnection(host, int(port), source_address=(one.address, 0)) for _ in range(STREAMS)]
    for beat in beats:
        beat.request("GET", f"{API}/heartbeat/{session()}")
        assert beat.getresponse().status == 200
    refused = one.http.get(f"{API}/heartbeat/{session()}")
    assert refused.status_code == 429
    assert "too many pages open" in refused.text
    with other.http.stream("GET", f"{API}/heartbeat/{session()}") as welcome:
        assert welcome.status_code == 200
    for beat in beats:
        beat.close()


def test_sessions_are_bounded_and_a_flood_takes_nobody_elses(
    small: Served, functions: dict[str, int], stranger: Callable[[], Visitor]
):
    """A visitor's language lives in the session: an open page keeps it, and so does one that is asleep."""
    flood, awake, asleep = stranger(), stranger(), stranger()

    def run(visitor: Visitor, name: str, data: list[Any], own: str) -> str:
        body = {"data": data, "fn_index": functions[name], "session_hash": own}
        return str(visitor.http.post(f"{API}/run/predict", json=body).json()["data"])

    def language(visitor: Visitor, own: str) -> str:
        """The language in which the session says that there is no answer yet."""
        said = run(visitor, "respeak", [f'<p class="{HINT}">', None], own)
        return "ja" if say("answers_hint", "ja") in said else "en"

    beating = Visitor(small.url, awake.address)
    own, other = session(), session()
    with beating.http.stream("GET", f"{API}/heartbeat/{own}"):
        run(awake, "change", ["ja"], own)
        run(asleep, "change", ["ja"], other)
        assert (language(awake, own), language(asleep, other)) == ("ja", "ja")
        for _ in range(3 * SESSIONS):
            run(flood, "change", ["ja"], session())
        assert small.health()["sessions"] <= SESSIONS + STREAMS
        assert (language(awake, own), language(asleep, other)) == ("ja", "ja")


# Turns, worked by hand


def test_turns_go_round_the_clients():
    assert in_turns("ABCDEF", "aaabbc", ()) == list("ADFBEC")


def test_whose_question_runs_has_had_a_turn():
    assert in_turns("ABC", "aab", {"a"}) == list("CAB")


def test_nobody_waits_longer_for_what_another_puts_in_line():
    """Three clients whose lines never empty are served in turn, the last to come too."""
    line, clients, served = ["a1", "a2", "b1"], {"a1": "a", "a2": "a", "b1": "b"}, []
    running: set[str] = set()
    for step in range(9):
        line = in_turns(line, [clients[item] for item in line], running)
        served.append(clients[first := line.pop(0)])
        running = {clients[first]}
        for owner in "ab" if step < 1 else "abc":
            clients[new := f"{owner}-{step}"] = owner
            line.append(new)
    assert "".join(served[-6:]) in ("abcabc", "bcabca", "cabcab", "acbacb", "cbacba", "bacbac")


# Clients


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_a_client_is_an_address_or_a_network_of_ipv6(one: str, other: str, same: bool):
    assert (network(one) == network(other)) is same
