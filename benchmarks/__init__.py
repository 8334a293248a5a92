"""What the program costs its users in time and calls, measured against goals."""
