"""Benchmarks: how fast evovlm is, beside others. Each module says how it is run; nothing in evovlm imports them."""
