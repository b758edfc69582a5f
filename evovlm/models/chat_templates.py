"""Renders chat templates, which come with models and are programs: in a confined child process, which is kept.

Knows templates, messages and the child; no tokens. A template may loop for ever or fill the memory; the child then
ends, and a sentence says so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

from evovlm.models.model_files import read_object
from evovlm.system.child_process import start_child
from evovlm.system.errors import DataError, MachineFault

UNRENDERED = "cannot be rendered"  # what the child says of an exception
QUESTION = "What is this?"
# Where a chat template may stand, the file that counts first.
FILES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json")
CHILD = "evovlm.models._template_child"
# Seconds to wait for all replies: the child limits its own processor time, but may have to wait for a processor.
LONGEST = 120.0
# Switches off the thoughts that Qwen3 and others write before an answer: they would take all of an answer's tokens.
# Templates without such a switch ignore the name.
WITHOUT_THOUGHTS = {"enable_thinking": False}
MOST_REPLY_BYTES = 2**28

_lock = threading.Lock()
_running: tuple[int, subprocess.Popen[bytes], Connection] | None = None  # with the process id of who started it


def render(template: str, conversations: Sequence[Any], variables: Mapping[str, Any]) -> list[str]:
    """Each conversation as text, up to the start of the answer, as transformers writes it with this template.

    Thoughts before the answer are switched off where the template has a switch for them.
    The date that a template may ask for is always the same, so that prompts do not change from day to day.
    Raises DataError if the template raises, takes more than a few seconds, writes far more than prompts, or needs far
    more memory.
    """
    texts = _asked(template, conversations, variables)
    if isinstance(texts, str):
        raise DataError(f"the model's chat template {texts}; correct it, or choose a preset without `chat`")
    return texts


def stored_template(folder: Path) -> str | None:
    """The chat template of a model's files, stripped; of several the default. None if there is none."""
    path = folder / FILES[0]
    found: Any = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    for name in FILES[1:]:
        found = (read_object(folder / name) or {}).get("chat_template") if found is None else found
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found.strip() if isinstance(found, str) else None


def template_file(folder: str) -> str:
    """The file that the chat template of a model in a folder stands in; the folder if it is not known."""
    for name in FILES:
        path = Path(folder) / name
        if path.is_file() and (name == FILES[0] or "chat_template" in (read_object(path) or {})):
            return str(path)
    return folder


def template_fault(template: str) -> str | None:
    """What is wrong with a template, as the rest of a sentence; None if it can write a question, with a picture or not.

    A language model's template is given a text, a vision-language model's a list of parts: one of them must work.
    """
    parts = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    variables = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    found = ""
    for content in (QUESTION, parts):
        texts = _asked(template, [[{"role": "user", "content": content}]], variables)
        if not isinstance(texts, str):
            return None
        found = found or texts
        if not texts.startswith(UNRENDERED):
            break  # it took too long, which it would again
    return found


def _asked(template: str, conversations: Sequence[Any], variables: Mapping[str, Any]) -> list[str] | str:
    """The texts, or what is wrong with the template."""
    named = {**WITHOUT_THOUGHTS, **variables}
    asked = {"template": template, "variables": named, "count": len(conversations)}
    texts: list[str] = []
    with _lock:
        process, pipe = _child()
        latest = monotonic() + LONGEST
        try:
            pipe.send_bytes(json.dumps(asked).encode())
            for conversation in conversations:
                pipe.send_bytes(json.dumps({"conversation": conversation}).encode())
                reply = _reply(pipe, latest)
                if "refused" in reply:
                    return str(reply["refused"])
                texts.append(reply["text"])
        except (EOFError, OSError, TimeoutError):
            return _ended(process)
    return texts


def _child() -> tuple[subprocess.Popen[bytes], Connection]:
    global _running  # noqa: PLW0603  one child serves the whole process
    if _running is None or _running[0] != os.getpid():  # a forked process must not talk to its parent's child
        process, pipe = start_child(CHILD)
        try:
            _reply(pipe, monotonic() + LONGEST)
        except (EOFError, OSError, TimeoutError):
            process.kill()
            raise MachineFault("no process can be started for chat templates; free memory, then try again") from None
        _running = os.getpid(), process, pipe
    return _running[1], _running[2]


def _reply(pipe: Connection, latest: float) -> dict[str, Any]:
    """The child's next reply. Raises TimeoutError if there is none at the time `latest` of the monotonic clock."""
    if not pipe.poll(max(latest - monotonic(), 0.0)):
        raise TimeoutError
    reply: dict[str, Any] = json.loads(pipe.recv_bytes(MOST_REPLY_BYTES))
    return reply


def _ended(process: subprocess.Popen[bytes]) -> str:
    """End the child, and say how it ended by itself if it did."""
    global _running  # noqa: PLW0603
    assert _running is not None
    _running[2].close()
    _running = None
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    late = code in (-signal.SIGVTALRM, -signal.SIGKILL)
    return "takes far too long to render" if late else f"ended the process that rendered it (exit code {code})"
