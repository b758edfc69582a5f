"""Time to merge and evaluate a candidate, against the hardware limit."""
