"""What the zoo's models can and cannot do: skill scores, sample answers and their images."""
