"""Checks on every request: its host, route, login, body and inputs, before gradio reads them."""
