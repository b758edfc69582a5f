"""Chat templates are programs of strangers: rendered as transformers does, in a child that cannot harm or hang us."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.chat import in_chat, template_of
from evovlm.models import _template_child, chat_templates
from evovlm.models.chat_templates import (
    render,
    stored_template,
    template_fault,
    template_file,
    tokenizer_template,
)
from evovlm.system.errors import CheckpointError, DataError
from tests.hub_layouts import CHAT_TEMPLATE, make_tokenizer, save_vlm

ASKED = [[{"role": "user", "content": "1 + 1?"}], [{"role": "user", "content": "犬は何匹?"}]]
CHATML = (
    "{{ bos_token }}{% for m in messages %}{% if loop.first %}[{{ m['role'] | upper }}]{% endif %}"
    "{{ m.content | trim | tojson }}{% endfor %}{% if add_generation_prompt %}<answer>{% endif %}"
)


def test_texts_are_transformers_own():
    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = CHATML
    expected = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in ASKED]
    assert in_chat(tokenizer, ["1 + 1?", "犬は何匹?"]) == expected
    assert expected[0] == '<s>[USER]"1 + 1?"<answer>'


def test_a_model_that_can_think_first_is_asked_not_to():
    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = CHATML + "{% if enable_thinking is defined and not enable_thinking %}<none>{% endif %}"
    asked = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    assert in_chat(tokenizer, ["1 + 1?"]) == [tokenizer.apply_chat_template(ASKED[0], **asked)]
    assert in_chat(tokenizer, ["1 + 1?"])[0].endswith("<none>")


def test_a_processors_texts_are_transformers_own(tmp_path: Path):
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(save_vlm(tmp_path / "vlm"))
    assert processor.chat_template == CHAT_TEMPLATE
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    expected = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert in_chat(processor, ["<image>\nwhat?"], sees=True) == [expected]


FOR_EVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGVTALRM})"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (FOR_EVER, "far too long to render"),
        ("{{ 10 ** (10 ** 9) }}", "far too long to render"),
        ("{{ 'a' * 10 ** 12 }}", "MemoryError"),
        ("{{ 'a' * 10 ** 7 }}", "writes 10,000,000 characters"),
        ("{{ messages[9].content }}", "UndefinedError"),
        ("{{ raise_exception('only [red]two[/]') }}", r"TemplateError: only \[red\]two\[/\]"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('id') }}", "SecurityError"),
    ],
)
def test_what_a_template_does_wrong_is_a_sentence_and_the_next_one_is_rendered(template: str, told: str):
    began = time.monotonic()
    with pytest.raises(DataError, match=f"the model's chat template .*{told}"):
        render(template, ASKED[:1], {})
    assert time.monotonic() - began < 60
    assert render(CHATML, ASKED[:1], {"bos_token": "<s>"}) == ['<s>[USER]"1 + 1?"<answer>']


@pytest.mark.slow
def test_one_prompt_that_takes_for_ever_ends_a_large_set_within_seconds():
    render(CHATML, ASKED, {})  # starts the child
    loops = "{% if messages[0].content == 'last' %}" + FOR_EVER + "{% endif %}{{ messages[0].content }}"
    asked = [*(ASKED[0],) * 6000, [{"role": "user", "content": "last"}]]
    began = time.monotonic()
    with pytest.raises(DataError, match="far too long to render"):
        render(loops, asked, {})
    # The limit of one prompt is 2 s; that of 6,001 together would be 14 s if it were not capped.
    assert time.monotonic() - began < 10


def test_a_large_set_of_prompts_has_a_limit_of_time_together(monkeypatch: pytest.MonkeyPatch):
    request = _template_child.Request({"template": "", "variables": {}, "count": 10**6})
    limits: list[float] = []
    monkeypatch.setattr(_template_child.signal, "setitimer", lambda _, seconds: limits.append(seconds))
    monkeypatch.setattr(_template_child, "process_time", itertools.count(0.0, 1.5).__next__)
    for _ in range(6):  # of 1.5 s each
        request.render(ASKED[0])
    assert limits[::2] == [2.0, 2.0, 2.0, 2.0, 2.0, 0.5]
    monkeypatch.undo()
    request = _template_child.Request({"template": "{{ 1 }}", "variables": {}, "count": 100})
    for _ in range(100):
        request.render(ASKED[0])
    assert 2.0 < request._seconds < 2.2


@pytest.mark.parametrize("how", ["signal.signal(signal.SIGVTALRM, signal.SIG_IGN)", BLOCKED])
def test_a_starter_that_ignores_or_blocks_the_alarm_does_not_disarm_it(how: str):
    """As `trap '' VTALRM` does in a shell."""
    program = (
        f"import signal\n{how}\nfrom evovlm.models.chat_templates import render\n"
        f"render({FOR_EVER!r}, [[{{'role': 'user', 'content': 'a'}}]], {{}})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "far too long to render" in done.stderr


def test_prompts_together_have_a_limit_of_length():
    """Tokenising them would take minutes."""
    with pytest.raises(DataError, match="writes prompts of more than 32,000,000 characters together"):
        render("{{ 'a' * 999999 }}", ASKED[:1] * 40, {})
    assert render("{{ 'a' * 999999 }}", ASKED[:1] * 2, {}) == ["a" * 999_999] * 2


def test_a_template_that_writes_half_a_character_is_blamed_for_it():
    with pytest.raises(DataError, match=r"the model's chat template cannot be rendered \(UnicodeEncodeError"):
        render('{{ "\\ud800" }}', ASKED[:1], {})


def test_the_date_and_what_is_drawn_are_always_the_same():
    """Else answers to two sets of prompts would be mixed when a study is resumed on another day."""
    llama = (
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
        "Today Date: {{ day }}|{{ range(10 ** 5) | random }}"
    )
    one, two = render(llama, ASKED, {})
    assert one == two
    assert one.startswith("Today Date: 26 Jul 2024|")


def test_one_child_serves_many_prompts_and_a_lost_one_is_replaced():
    render(CHATML, ASKED, {})
    assert chat_templates._running is not None
    child = chat_templates._running[1].pid
    began = time.process_time()
    assert len(render(CHATML, ASKED * 500, {})) == 1000
    assert time.process_time() - began < 0.5
    assert chat_templates._running[1].pid == child
    os.kill(child, signal.SIGKILL)
    with pytest.raises(DataError, match="the model's chat template"):
        render(CHATML, ASKED, {})
    assert len(render(CHATML, ASKED, {})) == 2


def test_the_child_outlives_the_thread_that_needed_it_first():
    """A server's threads end when they are idle."""
    if chat_templates._running is not None:
        os.kill(chat_templates._running[1].pid, signal.SIGKILL)
        with pytest.raises(DataError):
            render(CHATML, ASKED, {})
    for _ in range(2):
        thread = threading.Thread(target=render, args=(CHATML, ASKED, {}))
        thread.start()
        thread.join()
        assert chat_templates._running is not None
        with pytest.raises(subprocess.TimeoutExpired):
            chat_templates._running[1].wait(0.5)
    assert len(render(CHATML, ASKED, {})) == 2


def test_a_model_without_a_template_says_so():
    with pytest.raises(DataError, match="the model has no chat template"):
        in_chat(make_tokenizer(600), ["1 + 1?"])


LISTED = [{"name": {"a": 1}, "template": "no"}, {"name": "default", "template": "LISTED"}, "no", {"name": ["b"]}]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": "T", "chat_template.jinja": "J"}, ("J", "chat_template.jinja")),
        ({"chat_template.jinja": "J", "additional_chat_templates/default.jinja": "A"}, ("A", "default.jinja")),
        ({"tokenizer_config.json": "T", "additional_chat_templates/rag.jinja": "A"}, None),
        ({"tokenizer_config.json": {"default": "D", "rag": "no"}}, ("D", "tokenizer_config.json")),
        ({"tokenizer_config.json": [{"name": "default", "template": "L"}]}, ("L", "tokenizer_config.json")),
        ({"tokenizer_config.json": "T", "chat_template.json": "P"}, ("T", "tokenizer_config.json")),
        ({"processor_config.json": "P"}, None),
    ],
)
def test_a_tokenizers_template_is_the_one_that_transformers_reads(
    tmp_path: Path, files: dict[str, Any], expected: tuple[str, str] | None
):
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    write_templates(tmp_path, files)
    found = template_of(AutoTokenizer.from_pretrained(tmp_path))
    assert found == stored_template(tmp_path) == (None if expected is None else expected[0])
    file = Path(template_file(str(tmp_path)))
    assert file == tmp_path if expected is None else file.name == expected[1]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": "T", "chat_template.json": "P"}, ("P", "chat_template.json")),
        ({"tokenizer_config.json": "T", "chat_template.json": 7}, ("T", "tokenizer_config.json")),
        ({"processor_config.json": "C", "chat_template.jinja": "J"}, ("C", "processor_config.json")),
        ({"chat_template.jinja": "J", "additional_chat_templates/default.jinja": "A"}, ("J", "chat_template.jinja")),
        ({"additional_chat_templates/default.jinja": "A"}, ("A", "default.jinja")),
    ],
)
def test_a_processors_template_is_the_one_that_transformers_reads(
    tmp_path: Path, files: dict[str, Any], expected: tuple[str, str]
):
    from transformers import AutoProcessor

    folder = save_vlm(tmp_path / "vlm")
    for path in folder.glob("chat_template*"):
        path.unlink()
    write_templates(folder, files)
    assert template_of(AutoProcessor.from_pretrained(folder), sees=True) == stored_template(folder) == expected[0]
    assert Path(template_file(str(folder))).name == expected[1]


def write_templates(folder: Path, files: dict[str, Any]) -> None:
    """Put templates into files: those that are JSON keep their other entries, and lose a template that they have."""
    for name in ("tokenizer_config.json", "processor_config.json", *files):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".jinja":
            path.write_text(files[name], encoding="utf-8")
            continue
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        content.pop("chat_template", None)
        content |= {"chat_template": files[name]} if name in files else {}
        if content:
            path.write_text(json.dumps(content), encoding="utf-8")


def test_templates_with_names_of_any_kind_are_read(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": LISTED}), encoding="utf-8")
    assert stored_template(tmp_path) == tokenizer_template(tmp_path) == "LISTED"


def test_a_template_that_is_not_utf8_is_refused_by_file_and_line(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_bytes(b"{{ x }}\n\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja:2: cannot be read as text"):
        stored_template(tmp_path)


def test_a_template_for_pictures_must_write_their_place():
    words = "{% for p in messages[0].content if p.type == 'text' %}{{ p.text }}{% endfor %}"
    marked = "{% for p in messages[0].content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}"
    assert template_fault(words) is None
    assert template_fault(words, sees=True) == "writes no mark for a picture"
    assert template_fault(marked, sees=True) is None
    assert "TypeError" in str(template_fault("{{ 'Q: ' + messages[0].content }}", sees=True)), "it takes texts alone"


def test_a_fault_of_a_template_names_the_file_that_it_stands_in(tmp_path: Path):
    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = "{{ messages[9].content }}"
    tokenizer.save_pretrained(tmp_path)
    tokenizer.name_or_path = str(tmp_path)
    with pytest.raises(DataError, match=f"^{tmp_path}/chat_template.jinja: the model's chat template cannot"):
        in_chat(tokenizer, ["1 + 1?"])
