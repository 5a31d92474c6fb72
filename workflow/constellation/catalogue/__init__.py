"""The merged catalogue: its tables, how they are published, and how they are read."""
