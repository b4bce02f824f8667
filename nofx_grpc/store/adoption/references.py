"""What rows of NOFX refer to.  Its foreign keys were never on, so a row's owner, model or exchange may be missing."""

from collections import defaultdict

from nofx_grpc.store.users import DEFAULT_USER


class References:
    """The users, models and exchanges that were adopted."""

    def __init__(self) -> None:
        self.users: set[str] = {DEFAULT_USER}
        self._models: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._exchanges: set[tuple[str, str]] = set()

    def add_model(self, user_id: str, id: str, provider: str) -> None:
        self._models[user_id][id] = provider

    def add_exchange(self, user_id: str, id: str) -> None:
        self._exchanges.add((user_id, id))

    def has_exchange(self, user_id: str, id: str) -> bool:
        return (user_id, id) in self._exchanges

    def model(self, user_id: str, reference: str) -> str | None:
        """The user's model with this id, else, as NOFX does, the first by id of this provider; None without one."""
        models = self._models[user_id]
        if reference in models:
            return reference
        return min((id for id, provider in models.items() if provider == reference), default=None)
