"""Chat templates are programs of strangers: rendered as transformers does, in a child that cannot harm or hang us."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.chat import in_chat
from evovlm.models import _template_child, chat_templates
from evovlm.models.chat_templates import render
from evovlm.system.errors import DataError
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


def test_a_fault_of_a_template_names_the_file_that_it_stands_in(tmp_path: Path):
    tokenizer = make_tokenizer(600)
    tokenizer.chat_template = "{{ messages[9].content }}"
    tokenizer.save_pretrained(tmp_path)
    tokenizer.name_or_path = str(tmp_path)
    with pytest.raises(DataError, match=f"^{tmp_path}/chat_template.jinja: the model's chat template cannot"):
        in_chat(tokenizer, ["1 + 1?"])
