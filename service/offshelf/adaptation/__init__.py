"""Adaptation layers on sliding windows: labels of windows, score maps, and where objects are."""
