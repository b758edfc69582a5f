"""Run benchmark suites: models on tasks, results on disk, comparisons."""
