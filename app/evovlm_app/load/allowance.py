"""How much of the server one client, and all clients together, may use. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from evovlm_app.limits import MOST_BYTES


@dataclass(frozen=True)
class Allowance:
    """Limits on load; for limits on a single image or question see `limits`."""

    waiting: int = 12  # questions per client in the queue: more than one page can have there at a time
    heard_within: float = 10.0  # seconds from joining the queue to listening for the answer
    streams: int = 64  # open at once per client; an open page uses one, a question one more
    all_streams: int = 1024  # open at once, all clients
    sessions: int = 256  # kept after their page is closed
    session_age: float = 3600.0  # seconds for which such a session is kept unused
    upload_bytes: int = MOST_BYTES + 64_000  # per upload: one image and the multipart overhead
    upload_files: int = 8  # per upload
    hourly_bytes: int = 8 * MOST_BYTES  # uploaded per client and hour
    hourly_files: int = 100  # uploaded per client and hour; a whole school may share one address
    folder_bytes: int = 2_000_000_000  # images of all visitors
    discarded_bytes: int = 32_000_000  # read and dropped of a refused upload, so that the sender gets the reason


ALLOWANCE = Allowance()
