"""The child process of `chat_templates`: renders models' chat templates, confined.

Run as `python -m evovlm.models._template_child FD PARENT`: a socket to the parent, and the parent's process id.
Requests and replies are JSON: first a template with its variables and how many prompts there are, then one conversation
after the other, each of which is answered. transformers' own renderer is used, so that the texts are exactly its own,
except for the date: see `DAY`.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from datetime import datetime, tzinfo
from multiprocessing.connection import Connection
from time import process_time
from typing import Any

from evovlm.system.child import confine, die_with_parent

SPARE = 2**28  # bytes of memory beyond what the libraries take
# Seconds of processor time for a prompt, which takes about a tenth of a millisecond.
SECONDS = 2.0
# And for all prompts together: SECONDS, and these for each, but no more than the last.
SECONDS_EACH = 0.002
MOST_SECONDS = 8.0
MOST_CHARACTERS = 1_000_000  # of a prompt
# Of all prompts together: tokenising as many takes a minute and half a gigabyte.
MOST_CHARACTERS_TOGETHER = 32_000_000
MOST_WORDS = 200  # characters of an error's message
# The date for templates that write today's: else prompts would change over night, and a search that is resumed would
# mix them without a word. Llama's templates write this one themselves where they cannot ask for today's.
DAY = datetime(2024, 7, 26)


class FixedDay(datetime):
    """A clock that has stopped at DAY."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> FixedDay:
        """DAY, whatever the time zone."""
        return cls(DAY.year, DAY.month, DAY.day, tzinfo=tz)


class Refused(Exception):
    """What is wrong with a template, as the rest of a sentence."""


class Request:
    """A template with the time and the characters that are left to its prompts."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._template = asked["template"]
        self._variables = asked["variables"]
        self._seconds = min(SECONDS + SECONDS_EACH * asked["count"], MOST_SECONDS)
        self._characters = MOST_CHARACTERS_TOGETHER

    def render(self, conversation: Any) -> str:
        """The next prompt. Raises Refused; the process ends if it takes too long."""
        from transformers.utils.chat_template_utils import render_jinja_template

        random.seed(0)  # Jinja has a filter that chooses at random
        began = process_time()  # a timer that is read is only exact to a few milliseconds
        # Its default action ends this process, even within a library's loop.
        signal.setitimer(signal.ITIMER_VIRTUAL, max(min(SECONDS, self._seconds), 0.001))
        try:
            texts, _ = render_jinja_template(
                [conversation], chat_template=self._template, add_generation_prompt=True, **self._variables
            )
            text: str = texts[0]
            text.encode()  # a template can write halves of characters
        except Exception as error:  # a template may raise anything
            told = " ".join(str(error).split())[:MOST_WORDS]
            raise Refused(f"cannot be rendered ({type(error).__name__}: {told})") from None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self._seconds -= process_time() - began
        if len(text) > MOST_CHARACTERS:
            raise Refused(f"writes {len(text):,} characters")
        self._characters -= len(text)
        if self._characters < 0:
            raise Refused(f"writes prompts of more than {MOST_CHARACTERS_TOGETHER:,} characters together")
        return text


def main(descriptor: int, parent: int) -> None:
    """Serve requests until the parent closes the socket, or one takes too long."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends this process
    # Who started the parent may have had it ignored or blocked, and children inherit that.
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGVTALRM})
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = FixedDay  # what `strftime_now` asks
    pipe = Connection(descriptor)
    chat_template_utils.render_jinja_template([[]], chat_template="")  # imports what it needs while it may
    confine(SPARE)
    pipe.send_bytes(b"{}")
    request = Request({"template": "", "variables": {}, "count": 0})
    while True:
        try:
            asked = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        if "template" in asked:
            request = Request(asked)
            continue
        try:
            reply = {"text": request.render(asked["conversation"])}
        except Refused as refused:
            reply = {"refused": str(refused)}
        pipe.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
