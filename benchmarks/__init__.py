"""What is claimed to be fast, as ratios: ours over a reference that is measured in the same run."""
