"""Evaluators: merge one candidate, ask it questions and score its answers. Knows no searchers or study folders."""
