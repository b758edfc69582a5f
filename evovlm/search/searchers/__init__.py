"""The search algorithms, one a module. They know numbers alone."""
