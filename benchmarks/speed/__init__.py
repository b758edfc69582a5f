"""How fast a candidate is: floors measured in the same run, and the ratio to them."""
