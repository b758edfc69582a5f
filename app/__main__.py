"""Start the app: `python -m app`, or `evovlm app`. Binds to loopback unless told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def start(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    study: Annotated[Path, typer.Option(help="A finished study whose checkpoint is shown beside the sources.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Open the app on the zoo.

    Example: evovlm app --port 7861 --study runs/demo
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it, before torch loads
    import gradio as gr

    from app.page import build_page
    from app.shelf import Shelf
    from evovlm.tasks import load_task
    from evovlm.zoo.manifest import zoo_folder

    folders = {name: zoo_folder(name) for name in ("vlm", "ja")}
    merged = study / "checkpoint"
    if merged.is_dir():
        folders["evolved"] = merged
    task = load_task("zoo-vqa")
    page = build_page(Shelf(folders), task, task.items("test", 8, 0))
    page.queue(max_size=64).launch(
        server_name=host,
        server_port=port,
        allowed_paths=[],
        max_file_size="8mb",
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        footer_links=["api"],
    )


def main() -> None:
    """Run the command."""
    typer.run(start)


if __name__ == "__main__":
    main()
