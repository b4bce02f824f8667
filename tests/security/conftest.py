"""Stores, and somebody who can log in, as in the tests of the store and of the services."""

from tests.services.conftest import ann
from tests.store.conftest import database, store, watched

__all__ = ["ann", "database", "store", "watched"]
