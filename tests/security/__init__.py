"""The service as an attacker meets it."""
