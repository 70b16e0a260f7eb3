"""offshelf: CNN features off the shelf, as a service."""

__version__ = "0.1.0"
