"""The head of every page that is written: one file that asks no host for anything. Knows the style sheet."""

from html import escape
from importlib.resources import files


def page_head(title: str, policy: str) -> str:
    """From the doctype to the end of the head. `policy`: what the browser itself may load."""
    style = files("evovlm.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
    )
