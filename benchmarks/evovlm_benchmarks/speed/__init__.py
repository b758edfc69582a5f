"""How fast a candidate is made and answered, beside what the machine's own rates allow."""
