"""Which device a search runs on, if it is to be chosen: the one that its study was begun on, or a GPU if one works.

Knows the study's header and devices; no models.
"""

from __future__ import annotations

from pathlib import Path

from evovlm.study.header import sound_header
from evovlm.system.device import AUTO, check_device, chosen_device
from evovlm.system.errors import StudyError, UserError


def device_of(name: str, folder: Path) -> str:
    """The name of the device for a study in `folder`: for `auto` the one it was begun on if that works here.

    Otherwise as `chosen_device`. Other names are returned as they are, and not checked.
    """
    if name != AUTO:
        return name
    try:
        begun = str(sound_header(folder).get("device", AUTO))
        if begun != AUTO:
            check_device(begun)
            return begun
        return chosen_device(name)
    except (StudyError, UserError):  # no study yet, a damaged one (reported when it is opened), or no such device here
        return chosen_device(name)
