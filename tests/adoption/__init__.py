"""Adoption of NOFX's databases."""
