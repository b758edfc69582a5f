"""The commands of `evovlm bench`, one per module; each parses its arguments and prints."""
