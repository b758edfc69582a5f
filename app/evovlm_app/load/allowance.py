"""What one client, and all of them together, may take of the server. Numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

from evovlm_app.limits import MOST_BYTES


@dataclass(frozen=True)
class Allowance:
    """Limits on load; `limits` has those on a single picture or question."""

    waiting: int = 12  # questions of one client in the line: more than one page can have there at a time
    heard_within: float = 10.0  # seconds from joining the line to listening for the answer
    streams: int = 64  # of one client, open at once; an open page takes one, a question one more
    all_streams: int = 1024
    sessions: int = 256  # kept of those whose page is closed
    session_age: float = 3600.0  # seconds for which such a session is kept unused
    upload_bytes: int = MOST_BYTES + 64_000  # of an upload: one picture, and what is written around it
    upload_files: int = 8  # in one upload
    hourly_bytes: int = 8 * MOST_BYTES  # that one client may upload in an hour
    hourly_files: int = 100  # all of a school's visitors may have one address
    folder_bytes: int = 2_000_000_000  # of the pictures of all visitors
    discarded_bytes: int = 32_000_000  # read of a refused upload, so that its sender hears why


ALLOWANCE = Allowance()
