"""Evaluators: one candidate built, asked and scored. They know no searchers and no study folders."""
