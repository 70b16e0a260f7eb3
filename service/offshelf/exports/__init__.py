"""Feature sets as files: what a finished one is made of, and how any part of it is read."""
