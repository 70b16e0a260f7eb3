"""The REST API: stateless, free of torch, as many replicas as you like."""
