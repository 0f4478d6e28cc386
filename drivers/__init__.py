"""What each instrument understands: one module a family."""
