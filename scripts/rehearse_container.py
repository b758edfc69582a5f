"""Carry out the Dockerfile's steps without a container engine: `sudo python3 scripts/rehearse_container.py FOLDER`.

Copies the files that pass .dockerignore, runs the RUN lines that work on this system, and starts the image's command
with the image's environment as a separate user; then runs the health check. /opt, /src, /data and /home/evovlm are
placed under FOLDER. Needs root (to add the user) and Debian's own Python; uses the machine's package index. Not done:
apt-get (printed when it is skipped), and everything that an engine does (layers, isolation, a read-only root).
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
USER = "evovlm-rehearsal"
PLACES = ("/opt/evovlm", "/src", "/data", "/home/evovlm")
PORT = "7899"
PYTHON = "/usr/bin/python3"  # the system's Python, because the image's user cannot read another user's


def main(folder: Path) -> None:
    """Run the build stage, the last stage, the start command and the health check, under the new folder `folder`.

    Raises SystemExit if a step cannot be carried out or the server does not become healthy.
    """
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    if USER not in {entry.pw_name for entry in pwd.getpwall()}:
        subprocess.run(["useradd", "--system", "--no-create-home", USER], check=True)
    environment, place, command, check = {"PATH": "/usr/bin:/bin", "TORCH": "cpu"}, folder, [], []
    for word, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        print(f"{word:12} {rest[:100]}", flush=True)
        if word == "WORKDIR":
            place = under(folder, rest)
            place.mkdir(parents=True, exist_ok=True)
        elif word == "ENV":
            environment |= {name: under_all(folder, value) for name, value in pairs(rest, environment)}
        elif word == "COPY":
            copy(rest, folder, place)
        elif word == "RUN":
            run(rest, folder, place, environment)
        elif word == "CMD":
            command = [under_all(folder, part) for part in json.loads(rest)]
        elif word == "HEALTHCHECK":
            check = json.loads(rest.split("CMD", 1)[1])
    start(folder, environment, command, check)


def instructions(text: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined, without comments."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", kept).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word]


def pairs(rest: str, known: dict[str, str]) -> list[tuple[str, str]]:
    """The names and values of an ENV line, with $PATH replaced."""
    found = [part.partition("=") for part in rest.split()]
    return [(name, value.replace("$PATH", known["PATH"])) for name, _, value in found]


def under(folder: Path, path: str) -> Path:
    """Where a path of the image is in the rehearsal."""
    return folder / path.lstrip("/")


def under_all(folder: Path, text: str) -> str:
    """A text with every path of the image moved under the folder."""
    for place in PLACES:
        text = re.sub(rf"(?<![\w/]){place}(?![\w-])", str(under(folder, place)), text)
    return text


def copy(rest: str, folder: Path, place: Path) -> None:
    """Carry out a COPY from the repository. Raises SystemExit for a path that .dockerignore excludes."""
    *sources, target = [part for part in rest.split() if not part.startswith("--")]
    if "--from" in rest:
        return  # both stages share one folder
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in sources:
        if source not in allowed:
            raise SystemExit(f"COPY {source}: .dockerignore excludes it; add !{source} there")
        inside = under(folder, target) if target.startswith("/") else place / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, inside, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            inside.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, inside)


def run(rest: str, folder: Path, place: Path, environment: dict[str, str]) -> None:
    """Carry out a RUN, without apt-get (this system has its own packages) and with the user that already exists."""
    if "apt-get" in rest:
        print("             skipped: apt-get")
        return
    line = under_all(folder, rest).replace("python -m venv", f"{PYTHON} -m venv")
    line = re.sub(r"useradd [^&]*&& ", "", line).replace("evovlm:evovlm", f"{USER}:")
    line = line.replace("--index-url https://download.pytorch.org/whl/cpu ", "")  # the machine's own index
    subprocess.run(["/bin/bash", "-eo", "pipefail", "-c", line], check=True, cwd=place, env=os.environ | environment)


def start(folder: Path, environment: dict[str, str], command: list[str], check: list[str]) -> None:
    """Start the image's entry point and command as the user, and repeat the health check until it passes.

    Raises SystemExit if the server ends, or is not healthy after 180 seconds.
    """
    home = under(folder, "/home/evovlm")
    shutil.chown(home, USER)
    inside = environment | {"HOME": str(home)}
    binary = str(under(folder, "/opt/evovlm/bin"))
    words = [f"{binary}/evovlm", *(part.replace("7860", PORT).replace("0.0.0.0", "127.0.0.1") for part in command)]
    asked = [f"{binary}/{check[0]}", *(part.replace("7860", PORT) for part in check[1:])]
    print("START       ", " ".join(words), flush=True)
    with (folder / "log").open("w") as sink:
        server = subprocess.Popen(words, cwd=home, env=inside, user=USER, group=USER, extra_groups=[], stderr=sink)
        try:
            since = time.monotonic()
            while subprocess.run(asked, check=False, env=inside, user=USER, capture_output=True).returncode != 0:
                if server.poll() is not None or time.monotonic() - since > 180:
                    raise SystemExit(f"the server is not healthy; see its log in {folder / 'log'}")
                time.sleep(0.5)
            print(f"healthy after {time.monotonic() - since:.1f} s, as {USER}")
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
