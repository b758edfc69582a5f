"""Load on the app, as many visitors and as one hostile client."""
