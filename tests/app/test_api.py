"""The API as a program uses it, and what a stranger may not do with the server."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from evovlm.tasks import load_task
from tests.app.conftest import Served

gradio_client = pytest.importorskip("gradio_client")


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return gradio_client.Client(served.url, verbose=False)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Any, str]:
    item = load_task("zoo-vqa").items("test", 1, 0)[0]
    assert item.image is not None
    item.image().save(tmp_path / "scene.png")
    return gradio_client.handle_file(tmp_path / "scene.png"), item.question


def test_health_answers_and_tells_no_path(served: Served):
    health = served.health()
    assert health["status"] == "ok"
    assert "/" not in json.dumps(health)


def test_an_app_that_nobody_asks_rests(served: Served):
    served.health()
    process = psutil.Process(served.process)
    before = process.num_ctx_switches().voluntary
    time.sleep(2)
    assert process.num_ctx_switches().voluntary - before < 400


def test_a_port_that_is_taken_is_told_before_models_are_opened(served: Served):
    command = [sys.executable, "-P", "-m", "evovlm_app", "--port", served.url.rpartition(":")[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_reply_forbids_the_browser_to_ask_elsewhere(served: Served):
    with urllib.request.urlopen(served.url) as reply:
        assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
        assert b"http://fonts" not in (page := reply.read())
        assert b"googleapis" not in page


def test_three_endpoints_are_named_and_no_more(client: Any):
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/compare", "/maths", "/mix"}


def test_compare_gives_a_row_a_model(client: Any, scene: tuple[Any, str]):
    rows = client.predict(*scene, ["vlm", "merged"], api_name="/compare")
    assert [row["model"] for row in rows] == ["vlm", "merged"]
    assert all(row["state"] == "done" and row["tokens"] > 0 and 0 <= row["rouge_l"] <= 100 for row in rows)


def test_maths_tells_right_from_wrong(client: Any):
    item = load_task("zoo-maths").items("test", 1, 0)[0]
    rows = client.predict(item.question, ["ja"], item.references[0], api_name="/maths")
    wrong = client.predict(item.question, ["ja"], "987", api_name="/maths")
    assert rows[0]["number"] is not None
    assert rows[0]["right"] == (rows[0]["number"] == item.references[0])
    assert wrong[0]["right"] is False


def test_mix_merges_what_it_is_given_within_a_second(client: Any, scene: tuple[Any, str]):
    questions = [item.question for item in load_task("zoo-vqa").items("test", 8, 0)]

    def mix(ja: float, question: str) -> dict[str, Any]:
        parameters = {"vlm": {"weight": 0.75, "density": 1}, "ja": {"weight": ja, "density": 1}}
        row: dict[str, Any] = client.predict(
            "zoo-vlm", parameters, "task_arithmetic", 0, scene[0], question, api_name="/mix"
        )
        return row

    # To some questions both weights may give the same short answer, hardly to all.
    eyes, both = ([mix(ja, question) for question in questions] for ja in (0.0, 1.0))
    assert [row["answer"] for row in eyes] != [row["answer"] for row in both]
    assert both[0]["merged"] < 1.0
    assert "method: task_arithmetic" in both[0]["recipe"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("zoo-vlm", {"vlm": {"weight": 1, "density": 1}}, "ties", 0), "cannot be used"),
        (("zoo-vlm", {"vlm": {"weight": 1e99, "density": 1}, "ja": {"weight": 1, "density": 1}}, "ties", 0), "used"),
        (("zoo-vlm", {}, "no-such-method", 0), "choices"),
        (("../../etc/passwd", {}, "ties", 0), "choices"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_a_sentence(
    client: Any, scene: tuple[Any, str], arguments: Any, sentence: str
):
    with pytest.raises(gradio_client.exceptions.AppError, match=sentence):
        client.predict(*arguments, *scene, api_name="/mix")


def test_a_long_question_and_an_unknown_model_are_refused(client: Any, scene: tuple[Any, str]):
    with pytest.raises(gradio_client.exceptions.AppError, match="too long"):
        client.predict(scene[0], "何" * 301, ["vlm"], api_name="/compare")
    with pytest.raises(gradio_client.exceptions.AppError, match="choices"):
        client.predict(*scene, ["/etc"], api_name="/compare")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "pyproject.toml", "app/evovlm_app/catalogue.py", "evovlm/zoo/weights/vlm/config.json"]
)
def test_no_path_of_the_host_can_be_fetched(served: Served, path: str):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{served.url}/gradio_api/file={path}")
    assert refused.value.code in (403, 404)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/gradio_api/file=%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file//etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/gradio_api/proxy=http://127.0.0.1:22/",
        "/gradio_api/dev/reload",
        "/openapi.json",
        "/monitoring",
    ],
)
def test_no_way_round_leads_out_of_the_page(served: Served, path: str):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{served.url}{path}", timeout=5)
    assert refused.value.code in (400, 403, 404)
    assert b"root:" not in refused.value.read()


def test_an_upload_cannot_choose_where_it_lies(served: Served):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../../../tmp/evovlm-escaped.png"\r\n'
        b"Content-Type: image/png\r\n\r\nhello\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{served.url}/gradio_api/upload", body, headers)
    with urllib.request.urlopen(request) as reply:
        lies = Path(json.load(reply)[0])
    assert "evovlm-app-" in str(lies.parent)
    assert not Path("/tmp/evovlm-escaped.png").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "http://192.0.2.1/secret.png"])
def test_a_picture_named_by_path_or_address_is_not_read(served: Served, path: str):
    started = time.monotonic()
    body = {"data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, "何", ["vlm"]], "session_hash": "stranger"}
    request = urllib.request.Request(
        f"{served.url}/gradio_api/call/compare", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 400
    assert "uploaded here" in json.load(refused.value)["detail"]
    assert time.monotonic() - started < 5  # nobody was waited for


def test_the_log_is_json_and_holds_no_question(client: Any, served: Served):
    marker = "目印は何ですか"
    client.predict(marker, ["ja"], "", api_name="/maths")
    assert any(line["event"] == "answered" for line in served.log())
    assert marker not in served.logfile.read_text(encoding="utf-8")
