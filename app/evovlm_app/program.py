"""The app's command line: `evovlm app`, or `python -m evovlm_app`. Binds to loopback by default."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evovlm.cli.devices import device_for
from evovlm.cli.entry import run
from evovlm.cli.progress import waiting
from evovlm.system.errors import UserError
from evovlm.system.plain_text import abridged
from evovlm_app import _options as option
from evovlm_app.protection.allowed_hosts import check_host

if TYPE_CHECKING:
    from fastapi import FastAPI


def start(
    port: option.Port = 7860,
    host: option.Host = "127.0.0.1",
    models: option.Models = None,
    studies: option.Studies = Path("runs"),
    photos: option.Photos = None,
    device: option.Device = "auto",
    memory_gb: option.MemoryGb = None,
    allow_host: option.AllowHost = None,
    auth: option.Auth = None,
    searches: option.Searches = True,
    download: option.Download = False,
    self_check: option.SelfCheck = True,
) -> None:
    """Start the app with the zoo models, or with your own, at http://127.0.0.1:7860.

    \b
    Examples:
      evovlm app --port 7861
      evovlm app --models evovlm-jp --device cuda
      evovlm app --models my-merge --models zoo:vlm --photos pictures
      evovlm app --host 0.0.0.0 --auth guest:secret --no-searches
    """
    for name in allow_host or []:
        check_host(name)
    secret = _name_and_password(auth)
    check_port(host, port)
    if studies.exists() and not studies.is_dir():
        raise UserError(f"--studies: {abridged(str(studies), 200)} is not a folder; give the folder of your studies")
    _set_environment(download=download)
    with tempfile.TemporaryDirectory(prefix="evovlm-app-") as pictures:
        with waiting("starting the app") as doing:
            doing("loading libraries")
            from evovlm_app.server import build_server, stay_at_home

            stay_at_home(pictures)
            from evovlm.system.device import check_device
            from evovlm.system.plugins import load_plugins
            from evovlm_app.catalogue import offer
            from evovlm_app.logs import log_as_json
            from evovlm_app.model_cache import ModelCache, free_memory
            from evovlm_app.page import build_page
            from evovlm_app.samples import read_photographs
            from evovlm_app.searches import Searches

            log_as_json()
            doing("opening the models")
            load_plugins()
            device = device_for(device)
            check_device(device)
            offering = offer(models or [], studies, download=download)
            budget = int(memory_gb * 1e9) if memory_gb else free_memory(device) // 2
            doing("building the page")
            cache = ModelCache(budget, device=device, self_check=self_check)
            running = Searches(studies, device=device, self_check=self_check)
            page = build_page(offering, cache, running, photographs=read_photographs(photos), may_search=searches)
            server = build_server(
                page, cache, running, auth=secret, where=host, names=allow_host or [], pictures=pictures
            )
        _serve(server, host, port)


def _serve(server: FastAPI, host: str, port: int) -> None:
    import uvicorn

    print(f"evovlm app: http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", flush=True)
    # Shutdown does not wait for open streams: an open page would keep the server up.
    # The client is taken from the connection; forwarding headers are trusted only if the operator names the proxy.
    proxied = bool(os.environ.get("FORWARDED_ALLOW_IPS"))
    uvicorn.run(server, host=host, port=port, log_config=None, timeout_graceful_shutdown=3, proxy_headers=proxied)


def _set_environment(*, download: bool) -> None:
    """What must be set before torch and the hub's library load."""
    from evovlm_app.malloc import share_heaps

    share_heaps()
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # As in the command line: spinning threads waste cores that other work needs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def check_port(host: str, port: int) -> None:
    """Raises UserError if the address cannot be bound; checked early, before models are opened."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: no host name
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"--host {abridged(host)} --port {port}: {reason}; choose another with --port or --host"
        ) from None


def _name_and_password(auth: str | None) -> tuple[str, str] | None:
    if not auth:  # a container sets the variable to "" if there is no password
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise UserError("--auth: give NAME:PASSWORD; neither may be empty")
    return name, password


def main(arguments: list[str] | None = None) -> None:
    """Run the command (default: the process's arguments). A user error prints one sentence and exits with code 2."""
    command = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
    command.command()(start)
    run(command, arguments, name="evovlm app")
