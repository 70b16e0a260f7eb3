"""Exact training of linear heads on features: all classes and the whole path of C together."""
