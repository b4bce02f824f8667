"""The service as an attacker meets it: junk, floods, injections and a stolen token, against real server processes."""
