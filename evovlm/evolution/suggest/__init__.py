"""Which of many candidate models are worth merging for a task."""
