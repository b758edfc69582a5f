"""The medium zoo: crowded scenes with overlaps, written cards and Japanese things, and the training plan."""
