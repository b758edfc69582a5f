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

from evovlm.models.model_files import is_there, most_bytes, read_object
from evovlm.system.bounded_files import read_text
from evovlm.system.child_process import start_child
from evovlm.system.errors import CheckpointError, DataError, MachineFault, UserError

UNRENDERED = "cannot be rendered"  # what the child says of an exception
QUESTION = "What is this?"
KEY, DEFAULT = "chat_template", "default"
ONE, ADDITIONAL = "chat_template.jinja", "additional_chat_templates"  # a file, and a folder of more
Stored = tuple[Path, str]  # the file and its template
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
    """The chat template that transformers asks a model in, stripped; of several the default. None if there is none.

    A vision-language model's processor may have one of its own. Raises CheckpointError for a file that is not text.
    """
    found = _stored(folder)
    return None if found is None else found[1].strip()


def tokenizer_template(folder: Path) -> str | None:
    """The chat template of a model's tokenizer, stripped; None if it has none, or an empty one."""
    found = _of_tokenizer(folder)
    return None if found is None else found[1].strip() or None


def template_file(folder: str) -> str:
    """The file that the chat template of a model in a folder stands in; the folder if it is not known."""
    found = _stored(Path(folder))
    return folder if found is None else str(found[0])


def _stored(folder: Path) -> Stored | None:
    sees = (read_object(folder / "config.json") or {}).get("vision_config") is not None
    return (_of_processor(folder) if sees else None) or _of_tokenizer(folder)


def _of_tokenizer(folder: Path) -> Stored | None:
    """In transformers' order: templates in files of their own, of which an additional default one counts first."""
    for path in (folder / ADDITIONAL / f"{DEFAULT}.jinja", folder / ONE):
        if is_there(path):
            return path, _text(path)
    others = any((folder / ADDITIONAL).glob("*.jinja"))  # then transformers reads no configuration
    return None if others else _entry(folder / "tokenizer_config.json")


def _of_processor(folder: Path) -> Stored | None:
    """In transformers' order, which differs from that of tokenizers."""
    for name in ("processor_config.json", "chat_template.json"):
        if (read_object(folder / name) or {}).get(KEY) is not None:
            return _entry(folder / name)
    for path in (folder / ONE, folder / ADDITIONAL / f"{DEFAULT}.jinja"):
        if is_there(path):
            return path, _text(path)
    return None


def _entry(path: Path) -> Stored | None:
    """The template that a JSON file holds under `chat_template`: a text, or several by name."""
    given = (read_object(path) or {}).get(KEY)
    if isinstance(given, list):
        named = [one.get("template") for one in given if isinstance(one, dict) and one.get("name") == DEFAULT]
        given = named[-1] if named else None
    elif isinstance(given, dict):
        given = given.get(DEFAULT)
    return (path, given) if isinstance(given, str) else None


def _text(path: Path) -> str:
    try:
        return read_text(path, most_bytes(path.name))
    except UserError as error:
        raise CheckpointError(str(error)) from None


def template_fault(template: str, *, sees: bool = False) -> str | None:
    """What is wrong with a template, as the rest of a sentence; None if it can write a question.

    A language model's template is given a text, a vision-language model's a list of parts: one of them must work.
    sees: it must write a question with a mark for a picture.
    """
    part, picture = {"type": "text", "text": QUESTION, "content": QUESTION}, {"type": "image"}
    variables = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    found = ""
    for content in [[picture, part]] if sees else [QUESTION, [picture, part], [part]]:
        texts = _asked(template, [[{"role": "user", "content": content}]], variables)
        if isinstance(texts, str):
            found = found or texts
            if not texts.startswith(UNRENDERED):
                break  # it took too long, which it would again
        elif QUESTION not in texts[0]:
            found = "leaves out the question"
        elif sees and texts == _asked(template, [[{"role": "user", "content": [part]}]], variables):
            return "writes no mark for a picture"
        else:
            return None
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
