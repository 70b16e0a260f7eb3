"""Images with labels: reading what users bring, and the ways to split it."""
