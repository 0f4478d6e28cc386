"""Experiment procedures: what a scientist wants next."""
