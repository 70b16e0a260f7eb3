"""Pure rules: no I/O, no clock, no torch; everything here is tested exactly."""
