"""The HTML head of every generated page: self-contained, without network requests. Knows the style sheet."""

from html import escape
from importlib.resources import files


def page_head(title: str, policy: str) -> str:
    """The page from the doctype to the end of the head. `policy`: its content security policy."""
    style = files("evovlm.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
    )
