"""The detector from its own data: where its panels are, how well they see, and whether they do."""
