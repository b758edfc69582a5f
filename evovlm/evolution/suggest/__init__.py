"""Find out which of many candidate models are worth merging for a task."""
