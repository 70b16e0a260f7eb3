"""What a head said of its test samples, kept, and all that is told from it; numpy only."""
