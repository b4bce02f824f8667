"""Templates: the rows of the user `default`, which all users choose from."""

from nofx_grpc.errors import FailedPrecondition
from nofx_grpc.services.call import Call
from nofx_grpc.store.users import DEFAULT_USER
from nofx_grpc.v1 import common_pb2


def check_may_write(call: Call, user_id: str) -> None:
    """Raises PermissionDenied if a caller who is no admin would change templates: they are everybody's."""
    if user_id == DEFAULT_USER:
        call.require(common_pb2.PERMISSION_ADMIN, "changing what belongs to the template user 'default'")


def check_not_template(id: str) -> None:
    """Raises FailedPrecondition for the user that owns the templates."""
    if id == DEFAULT_USER:
        raise FailedPrecondition(
            f"the user {DEFAULT_USER!r} owns the templates: it cannot be changed, deleted or given a password"
        )
