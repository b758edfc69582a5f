"""What the zoo's models can and cannot do: skills, sample answers and their pictures."""
