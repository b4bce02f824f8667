"""Adoption: what a database of NOFX holds is read, and loaded into a new store, its secrets sealed.

The steps, in the order in which `adopt` takes them::

    source.py    the database of NOFX, read into memory without touching its files
    rows.py      each table's columns, and what a missing, empty or odd value becomes (values.py)
    secrets.py   NOFX's ciphertexts opened, clear values taken
    load.py      the rows checked against each other (references.py) and written to the new store
    verify.py    the new store read back and compared
    staging.py   the new file put in place, whole or not at all
    report.py    what was found, what became of it, and what the operator has to look at
"""
