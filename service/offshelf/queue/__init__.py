"""What goes through Redis: interactive requests, jobs, progress and the workers' heartbeats."""
