"""Chat templates are programs of strangers: rendered as transformers does, in a child that cannot harm or hang us."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evovlm.engines.chat import in_chat
from evovlm.models import chat_templates
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


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "far too long to render"),
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
