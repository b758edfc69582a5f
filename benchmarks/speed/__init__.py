<<<<<<< HEAD
"""How fast a candidate is: floors measured in the same run, and the ratio to them."""
=======
"""How fast a candidate is made and answered, beside what the machine's own rates allow."""
>>>>>>> main
