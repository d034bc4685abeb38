"""Dead letters: reading, classifying, requeueing and removing them."""
