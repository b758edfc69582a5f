"""Limits on the server's load: a fair queue, sessions, uploads and open connections."""
