"""Benchmarks: what models are worth, and how fast evovlm is. Nothing in evovlm imports them."""
