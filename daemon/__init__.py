"""The long-running service: the only room that knows all others."""
