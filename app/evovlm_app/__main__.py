"""Start the app: `python -m evovlm_app`, or `evovlm app`. Binds to loopback unless told."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from evovlm.system.errors import UserError

Models = Annotated[
    list[str] | None,
    typer.Option("--models", help="A recipe (its sources and merge) or a checkpoint folder; may be repeated."),
]


def start(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to bind to; 0.0.0.0 for all.")] = "127.0.0.1",
    models: Models = None,
    studies: Annotated[Path, typer.Option(help="The folder whose studies are shown, and where searches go.")] = Path(
        "runs"
    ),
    photos: Annotated[Path | None, typer.Option(help="A folder of photographs to choose from.")] = None,
    device: Annotated[str, typer.Option(help="Where models run: cpu, cuda, cuda:1.")] = "cpu",
    memory_gb: Annotated[
        float | None, typer.Option(min=0.05, help="Memory for models, in GB; half of what is free otherwise.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar="EVOVLM_ALLOW_HOST",
            help="A name that visitors reach the app by, besides this machine's own; may stand several times.",
        ),
    ] = None,
    auth: Annotated[
        str | None, typer.Option(envvar="EVOVLM_AUTH", help="NAME:PASSWORD that visitors must give.")
    ] = None,
    searches: Annotated[bool, typer.Option(help="Whether visitors may start and stop searches.")] = True,
    download: Annotated[bool, typer.Option("--download", help="Fetch hub models that are not in the cache.")] = False,
) -> None:
    """Open the app on the zoo, or on your own models, at http://127.0.0.1:7860.

    \b
    Examples:
      evovlm app --port 7861
      evovlm app --models evovlm-jp --device cuda
      evovlm app --models my-merge --models zoo:vlm --photos pictures
      evovlm app --host 0.0.0.0 --auth guest:secret --no-searches
    """
    check_port(host, port)
    from evovlm_app.malloc import share_heaps
    from evovlm_app.server import stay_at_home

    share_heaps()
    if not download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # As the command line sets it, before torch loads: spinning threads starve where other work shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory(prefix="evovlm-app-") as pictures:
        stay_at_home(pictures)
        import uvicorn

        from evovlm.system.device import check_device
        from evovlm.system.plugins import load_plugins
        from evovlm_app.catalogue import offer
        from evovlm_app.logs import log_as_json
        from evovlm_app.model_cache import ModelCache, free_memory
        from evovlm_app.page import build_page
        from evovlm_app.samples import read_photographs
        from evovlm_app.searches import Searches
        from evovlm_app.server import build_server

        log_as_json()
        load_plugins()
        check_device(device)
        offering = offer(models or [], studies, download=download)
        cache = ModelCache(int(memory_gb * 1e9) if memory_gb else free_memory(device) // 2, device=device)
        running = Searches(studies, device=device)
        page = build_page(offering, cache, running, photographs=read_photographs(photos), may_search=searches)
        secret, names = _name_and_password(auth), allow_host or []
        server = build_server(page, cache, running, auth=secret, where=host, names=names, pictures=pictures)
        print(f"evovlm app: http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", flush=True)
        # A stop waits for no open stream: whoever looks on would keep the server up.
        # Who asks is known by the connection: a header that says so is believed where the operator names the proxy.
        proxied = bool(os.environ.get("FORWARDED_ALLOW_IPS"))
        uvicorn.run(server, host=host, port=port, log_config=None, timeout_graceful_shutdown=3, proxy_headers=proxied)


def check_port(host: str, port: int) -> None:
    """Raises UserError where the address cannot be listened on: better known before models are opened."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--host {host} --port {port}: {reason}; choose another with --port or --host") from None


def _name_and_password(auth: str | None) -> tuple[str, str] | None:
    if not auth:  # a container gives an empty variable where there is none
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise UserError("--auth: give NAME:PASSWORD, both not empty")
    return name, password


def main() -> None:
    """Run the command; a user's mistake is a sentence and exit code 2."""
    try:
        command = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})
        command.command()(start)
        command(prog_name="evovlm app")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
