"""The medium zoo's world: crowded scenes with overlaps, written cards and Japanese things; and its training plan."""
