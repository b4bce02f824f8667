"""Everything cryptographic, and nothing else: no I/O, no database, no gRPC; clock and randomness are passed in."""
