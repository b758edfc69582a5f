"""The search algorithms, one per module. They know only numbers."""
