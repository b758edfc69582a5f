"""Load tests of the app: many visitors at once, and hostile clients."""
