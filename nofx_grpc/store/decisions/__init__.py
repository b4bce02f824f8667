"""The decision logs: an index of the records, and the two homes that their bodies have."""
