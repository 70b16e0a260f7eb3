# Generated from _async by generate_sync.py; edit there.
"""The asynchronous client; the synchronous one is generated from it by `generate_sync.py`."""
