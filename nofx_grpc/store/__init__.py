"""The store: every table, statement and migration; the only package that knows SQL."""
