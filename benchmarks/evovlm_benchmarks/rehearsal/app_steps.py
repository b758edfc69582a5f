"""The app's part of a rehearsal, over plain HTTP: start it on the recipe, ask each model, and mix.

Knows the app's command line and its endpoints; no models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evovlm_benchmarks.app_load.server import serving
from evovlm_benchmarks.app_load.visitor import Lost, Visitor, picture
from evovlm_benchmarks.rehearsal.data import PAIRS, TEST
from evovlm_benchmarks.rehearsal.models import JA, VLM
from evovlm_benchmarks.rehearsal.rows import Row
from evovlm_benchmarks.rehearsal.steps import RECIPE

START, ASKED, MIXED = "app, start", "app, {model}", "app, mix"
MERGED = "merged"
MODELS = (VLM, JA, MERGED)
STEPS = (START, *(ASKED.format(model=model) for model in MODELS), f"{ASKED.format(model=MERGED)}, again", MIXED)


def app_rows(folder: Path, device: str) -> Iterator[Row]:
    """A row each for the app's start, each model's first answer, the merged model's second, and a mix of other weights.

    Seconds are those that a visitor waits for the whole answer. A request that fails is a row that says why.
    """
    began = time.perf_counter()
    words = ["--models", RECIPE, "--device", device, "--photos", f"{TEST}/images"]
    with serving(folder / "app-studies", words, cwd=folder) as server:
        yield {"step": START, "seconds": time.perf_counter() - began, "host": int(server.memory_mb() * 1e6)}
        visitor = Visitor(server.url, "127.0.0.2", timeout=480.0)
        functions = visitor.functions()
        photo = sorted((folder / TEST / "images").iterdir())[0].read_bytes()
        question = PAIRS[0][0]
        for name, model in zip(STEPS[1:-1], (*MODELS, MERGED), strict=True):
            yield _timed(
                name, visitor, functions["compare"], photo, lambda place, one=model: [place, question, [one], None]
            )
        weights = {name: {"weight": 0.3, "density": 0.7} for name in (VLM, JA)}
        stem = Path(RECIPE).stem
        yield _timed(
            MIXED,
            visitor,
            functions["mix"],
            photo,
            lambda place: [stem, weights, "dare_ties", 0, place, question, None],
        )


def _timed(step: str, visitor: Visitor, function: int, photo: bytes, data: Any) -> Row:
    """Upload the picture and ask; the row says how long the answer took."""
    sent = visitor.upload(photo)
    began = time.perf_counter()
    try:
        [found] = visitor.ask(function, data(picture(sent.json()[0])))
    except Lost as fault:
        return {"step": step, "failed": str(fault)[:300], "seconds": time.perf_counter() - began}
    row = found[0] if isinstance(found, list) else found
    told: Row = {"step": step, "seconds": time.perf_counter() - began, "answer": row.get("answer")}
    return told if row.get("state") in ("done", None) else told | {"failed": f"{row.get('state')}: {row.get('answer')}"}
