"""The page: four tabs in two languages, in light and dark mode. Knows the tabs and their texts; no models."""

from __future__ import annotations

from typing import Any

import gradio as gr

from evovlm_app.asking import Asker
from evovlm_app.catalogue import Offering
from evovlm_app.compare import build_compare
from evovlm_app.context import PRIVATE, Context
from evovlm_app.evolution import build_evolution
from evovlm_app.maths import build_maths
from evovlm_app.mix import build_mix
from evovlm_app.model_cache import ModelCache
from evovlm_app.protection.safe_page import SafePage
from evovlm_app.searches import Searches
from evovlm_app.theme import brand
from evovlm_app.translations import Translator
from evovlm_app.words import LANGUAGES, Language, preferred

QUEUED = 128  # questions that may wait; further ones are refused
# Seconds: every ten minutes, visitors' images older than an hour are deleted.
KEPT = (600, 3600)
DARK = "() => { window.evovlm.flip(); }"
REMEMBERED = "() => { window.evovlm.theme(); }"
SPOKEN = "(language) => window.evovlm.speak(language)"


def build_page(
    offering: Offering,
    cache: ModelCache,
    searches: Searches,
    *,
    photographs: tuple[Any, ...] = (),
    may_search: bool = True,
) -> SafePage:
    """Build the page for an offering, with its queue, ready to be served."""
    speak = Translator("en")
    page = SafePage(title="evovlm", analytics_enabled=False, delete_cache=KEPT)
    with page:
        page.language = language = gr.State("en")
        context = Context(offering, cache, searches, speak, language, photographs)
        switch = _head(speak)
        asker = Asker(offering, cache)
        with gr.Tabs(elem_id="tabs"):
            with speak(gr.Tab(id="compare", elem_id="tab-compare"), label="tab_compare"):
                build_compare(context, asker)
            if offering.models("llm"):
                with speak(gr.Tab(id="maths", elem_id="tab-maths"), label="tab_maths"):
                    build_maths(context, asker)
            if offering.mixables:
                with speak(gr.Tab(id="mix", elem_id="tab-mix"), label="tab_mix"):
                    build_mix(context, asker)
            with speak(gr.Tab(id="evolution", elem_id="tab-evolution"), label="tab_evolution"):
                watch = build_evolution(context, may_search=may_search)
        _connect(page, speak, language, switch)
        watch(page.load)
    page.queue(max_size=QUEUED, default_concurrency_limit=8, api_open=False)
    return page


def _head(speak: Translator) -> Any:
    """Build the header: logo, tagline, language switch, light/dark button. Returns the language switch."""
    with gr.Row(elem_id="head"):
        gr.HTML(brand(), elem_id="brand")
        speak(gr.Markdown(elem_id="tagline"), value="tagline")
        choices = [(name, tag) for name, tag in LANGUAGES.items()]
        switch = speak(
            gr.Radio(choices, value="en", show_label=False, container=False, elem_id="language", min_width=0),
            label="language",
        )
        dark = speak(gr.Button(size="sm", min_width=0, elem_id="dark"), value="dark")
        dark.click(None, js=DARK, **PRIVATE)
    return switch


def _connect(page: gr.Blocks, speak: Translator, language: Any, switch: Any) -> None:
    """Set the language on load, and on a switch.

    On load it is the last choice stored in the browser, or else the browser's own language.
    """
    chosen = gr.BrowserState("", storage_key="evovlm-language")

    def arrive(remembered: Any, request: gr.Request) -> list[Any]:
        known: Language = (
            remembered if remembered in ("ja", "en") else preferred(request.headers.get("accept-language"))
        )
        return [known, known, *speak.updates(known)]

    def change(wanted: Language) -> list[Any]:
        return [wanted, wanted, *speak.updates(wanted)]

    page.load(None, js=REMEMBERED, **PRIVATE)
    quiet = {"queue": False, "show_progress": "hidden", **PRIVATE}
    for spoken in (
        page.load(arrive, chosen, [language, switch, *speak.components], **quiet),
        switch.input(change, switch, [language, chosen, *speak.components], **quiet),
    ):
        spoken.then(None, switch, None, js=SPOKEN, **PRIVATE)
        for words, inputs, outputs in speak.others:
            spoken.then(words, inputs, outputs, **quiet)
