"""The files that a head can be taken away in: one module each."""
