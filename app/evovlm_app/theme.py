"""The page's appearance: colours, fonts, logo, and the page's small script. Knows gradio's themes; no tabs.

Everything comes from this server: the Latin font is gradio's bundled copy; Japanese fonts are the visitor's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from evovlm_app.limits import MOST_MEGABYTES
from evovlm_app.words import browser_words

HERE = Path(__file__).parent
CSS = HERE / "style.css"
ICON = HERE / "mark.svg"

# Vermilion for actions, a warm grey for the rest; white text on shade 600 has a contrast of 5:1.
VERMILION = gr.themes.Color(
    name="vermilion",
    c50="#fdf3ef",
    c100="#fbe4db",
    c200="#f6c8b8",
    c300="#efa68e",
    c400="#e98868",
    c500="#d9532f",
    c600="#c0401e",
    c700="#9f3418",
    c800="#802c18",
    c900="#5c2416",
    c950="#35130b",
)
STONE = gr.themes.Color(
    name="warm-stone",
    c50="#faf9f7",
    c100="#f3f1ee",
    c200="#e7e4df",
    c300="#d3cfc8",
    c400="#a39e96",
    c500="#6f6a63",
    c600="#57534d",
    c700="#3d3a36",
    c800="#2a2825",
    c900="#1e1c1a",
    c950="#151412",
)
# Japanese fonts of macOS, Windows, Linux and Android; they follow gradio's bundled Latin font.
JAPANESE = ("Hiragino Sans", "Yu Gothic UI", "Noto Sans JP", "Noto Sans CJK JP", "Meiryo")

# The login page is served without the style sheet.
DOOR = (
    ".wrap.min-h-screen { background: transparent }"
    " .wrap.min-h-screen .column.panel { background: var(--block-background-fill); border-radius: 16px; padding: 24px;"
    " border: 1px solid var(--border-color-primary); gap: 16px }"
    " .wrap.min-h-screen .block { border: 0; padding: 0 } .wrap.min-h-screen h2 { font-weight: 600; margin: 0 }"
)


def theme() -> Any:
    """The gradio theme: plain labels, one accent colour, thin borders instead of shadows."""
    look = gr.themes.Base(
        primary_hue=VERMILION,
        secondary_hue=VERMILION,
        neutral_hue=STONE,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.LocalFont("Source Sans Pro", weights=(400, 600)), *JAPANESE, "system-ui", "sans-serif"],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 600)), *JAPANESE, "monospace"],
    )
    return look.set(**_surfaces(), **_labels(), **_controls())


def head() -> str:
    """HTML for the page's <head>: theme colours for a phone's bars, the login page's style, and the script."""
    bars = [("light", STONE.c50), ("dark", STONE.c950)]
    metas = "".join(
        f'<meta name="theme-color" media="(prefers-color-scheme: {scheme})" content="{colour}">'
        for scheme, colour in bars
    )
    words = json.dumps(browser_words(MOST_MEGABYTES), ensure_ascii=False).replace("<", "\\u003c")
    script = (HERE / "page.js").read_text(encoding="utf-8").replace("const WORDS = {};", f"const WORDS = {words};")
    return f"{metas}<style>{DOOR}</style><script>{script}</script>"


def brand() -> str:
    """HTML of the logo (two circles for the parents, and their overlap) and the name."""
    return f'<div class="brand">{ICON.read_text(encoding="utf-8")}<h1>evovlm</h1></div>'


def _surfaces() -> dict[str, str]:
    return {
        "body_background_fill": "*neutral_50",
        "body_background_fill_dark": "*neutral_950",
        "body_text_color": "*neutral_900",
        "body_text_color_dark": "*neutral_100",
        "body_text_color_subdued": "*neutral_500",
        "body_text_color_subdued_dark": "*neutral_400",
        "background_fill_primary": "white",
        "background_fill_primary_dark": "*neutral_900",
        "background_fill_secondary": "*neutral_100",
        "background_fill_secondary_dark": "*neutral_800",
        "border_color_primary": "*neutral_200",
        "border_color_primary_dark": "*neutral_800",
        "block_background_fill": "white",
        "block_background_fill_dark": "*neutral_900",
        "block_border_width": "1px",
        "block_radius": "14px",
        "block_shadow": "none",
        "block_shadow_dark": "none",
    }


def _labels() -> dict[str, str]:
    """Field labels as small plain text instead of badges."""
    plain: dict[str, str] = {}
    for part in ("block_label", "block_title"):
        plain |= {
            f"{part}_background_fill": "transparent",
            f"{part}_background_fill_dark": "transparent",
            f"{part}_border_width": "0px",
            f"{part}_padding": "0px",
            f"{part}_text_size": "*text_sm",
            f"{part}_text_weight": "600",
            f"{part}_text_color": "*neutral_600",
            f"{part}_text_color_dark": "*neutral_300",
        }
    return plain | {"block_label_shadow": "none"}


def _controls() -> dict[str, str]:
    return {
        "input_background_fill": "white",
        "input_background_fill_dark": "*neutral_950",
        "input_border_width": "1px",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_700",
        "input_border_color_focus": "*primary_600",
        "input_border_color_focus_dark": "*primary_400",
        "input_radius": "10px",
        "slider_color": "*primary_600",
        "slider_color_dark": "*primary_500",
        "button_medium_radius": "10px",
        "button_small_radius": "9px",
        "button_large_radius": "10px",
        "button_primary_background_fill": "*primary_600",
        "button_primary_background_fill_dark": "*primary_600",
        "button_primary_background_fill_hover": "*primary_700",
        "button_primary_background_fill_hover_dark": "*primary_500",
        "button_primary_text_color": "white",
        "button_primary_text_color_dark": "white",
        "button_secondary_background_fill": "white",
        "button_secondary_background_fill_dark": "*neutral_800",
        "button_secondary_background_fill_hover": "*neutral_100",
        "button_secondary_background_fill_hover_dark": "*neutral_700",
        "button_secondary_border_color": "*neutral_300",
        "button_secondary_border_color_dark": "*neutral_700",
        "button_border_width": "1px",
        "checkbox_label_background_fill": "white",
        "checkbox_label_background_fill_dark": "*neutral_900",
        "checkbox_label_background_fill_selected": "*primary_50",
        "checkbox_label_background_fill_selected_dark": "*primary_950",
        "checkbox_label_text_color_selected": "*primary_800",
        "checkbox_label_text_color_selected_dark": "*primary_200",
        "checkbox_label_border_color": "*neutral_300",
        "checkbox_label_border_color_dark": "*neutral_700",
        "checkbox_label_border_color_selected": "*primary_600",
        "checkbox_label_border_color_selected_dark": "*primary_600",
        "checkbox_background_color_selected": "*primary_600",
        "checkbox_background_color_selected_dark": "*primary_600",
        "checkbox_border_color_selected": "*primary_600",
        "checkbox_border_color_selected_dark": "*primary_600",
    }
