"""`evovlm bench rehearse`: every command of a whole job, run as a user runs it, on checkpoints of real shapes."""
