"""The child process of `chat_templates`: renders models' chat templates, confined.

Run as `python -m evovlm.models._template_child FD PARENT`: a socket to the parent, and the parent's process id.
Requests and replies are JSON. transformers' own renderer is used, so that the texts are exactly its own.
"""

from __future__ import annotations

import json
import signal
import sys
from multiprocessing.connection import Connection

from evovlm.system.child import confine, die_with_parent

SPARE = 2**28  # bytes of memory beyond what the libraries take
# Seconds of processor time for a request, and for each of its prompts, which take about a tenth of a millisecond.
SECONDS = 2.0
SECONDS_EACH = 0.002
MOST_CHARACTERS = 1_000_000  # of a prompt
MOST_WORDS = 200  # characters of an error's message


def main(descriptor: int, parent: int) -> None:
    """Serve requests until the parent closes the socket, or one takes too long."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then ends this process
    from transformers.utils.chat_template_utils import render_jinja_template

    pipe = Connection(descriptor)
    render_jinja_template([[]], chat_template="")  # imports what it needs while it may
    confine(SPARE)
    pipe.send_bytes(b"{}")
    while True:
        try:
            asked = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        # Its default action ends this process, even within a library's loop.
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS + SECONDS_EACH * len(asked["conversations"]))
        reply: dict[str, object]
        try:
            texts, _ = render_jinja_template(
                asked["conversations"],
                chat_template=asked["template"],
                add_generation_prompt=True,
                **asked["variables"],
            )
            longest = max(map(len, texts), default=0)
            reply = {"texts": texts} if longest <= MOST_CHARACTERS else {"refused": f"writes {longest:,} characters"}
        except Exception as error:  # a template may raise anything
            told = " ".join(str(error).split())[:MOST_WORDS]
            reply = {"refused": f"cannot be rendered ({type(error).__name__}: {told})"}
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        pipe.send_bytes(json.dumps(reply).encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
