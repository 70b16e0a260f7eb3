"""The wire: what requests and answers look like, for the API, the workers and the records."""
