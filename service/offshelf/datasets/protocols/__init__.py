"""The published ways to split and score data sets, one module each, found by discovery."""
