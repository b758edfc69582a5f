"""Benchmarks: the quality of models and the speed of evovlm. Nothing in evovlm imports them."""
