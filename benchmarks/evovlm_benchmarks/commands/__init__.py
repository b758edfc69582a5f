"""The commands of `evovlm bench`, one a module; each parses its arguments and prints."""
