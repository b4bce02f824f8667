"""The report of a trader: one page that needs nothing else, and holds no script."""
