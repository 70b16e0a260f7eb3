"""Where datasets, features and heads are kept: a directory, or an object store."""
