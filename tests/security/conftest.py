"""The stores of the tests of the store, here too."""

from tests.store.conftest import database, store, watched

__all__ = ["database", "store", "watched"]
