"""Who may call the rpcs of Users: by role, and by the user that a token is limited to."""

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from nofx_grpc.v1 import users_pb2 as pb
from tests.support.people import PASSWORD, create
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode


@dataclass(frozen=True)
class Rpc:
    """One rpc with a request that names the user ann, if it names one."""

    name: str
    request: Any
    roles: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return self.name

    async def call(self, client: Client) -> Any:
        return await getattr(client.users, self.name)(self.request)


ALL, ADMIN, LOGIN = (
    frozenset({"admin", "gateway", "engine", "viewer"}),
    frozenset({"admin"}),
    frozenset({"admin", "gateway"}),
)
NAMES_A_USER = (
    Rpc("GetUser", pb.GetUserRequest(id="ann"), ALL),
    Rpc("UpdateUser", pb.UpdateUserRequest(user=pb.User(id="ann")), ADMIN),
    Rpc("DeleteUser", pb.DeleteUserRequest(id="ann"), ADMIN),
    Rpc("CompleteRegistration", pb.CompleteRegistrationRequest(user_id="ann", otp_code="000000"), LOGIN),
    Rpc("ChangePassword", pb.ChangePasswordRequest(user_id="ann", old_password="x", new_password=PASSWORD), LOGIN),
    Rpc("SetPassword", pb.SetPasswordRequest(user_id="ann", password=PASSWORD), ADMIN),
    Rpc("ResetOtp", pb.ResetOtpRequest(user_id="ann"), ADMIN),
)
NAMES_NOBODY = (
    Rpc("CreateUser", pb.CreateUserRequest(user=pb.User(email="x@y")), ADMIN),
    Rpc("GetUser", pb.GetUserRequest(email="ann@example.com"), ALL),
    Rpc("RegisterUser", pb.RegisterUserRequest(email="x@y", password=PASSWORD), LOGIN),
    Rpc("Authenticate", pb.AuthenticateRequest(email="ann@example.com", password=PASSWORD), LOGIN),
    Rpc("VerifyOtp", pb.VerifyOtpRequest(login_token="x", otp_code="000000"), LOGIN),
)


@pytest.mark.parametrize("rpc", [*NAMES_A_USER, *NAMES_NOBODY, Rpc("ListUsers", pb.ListUsersRequest(), ALL)], ids=str)
async def test_a_role_without_the_permission_is_refused(service: RunningService, rpc: Rpc) -> None:
    await create(service)
    async with service.nothing_written():
        for role in sorted(ALL - rpc.roles):
            await refused(rpc.call(service.client(role)), Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert (await service.last_record("outcome"))[0] == ("DENIED" if rpc.roles != ALL else "OK")
    await refused(rpc.call(service.anonymous()), Code.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.parametrize("rpc", NAMES_A_USER, ids=str)
async def test_a_token_of_another_user_finds_nobody(service: RunningService, rpc: Rpc) -> None:
    await create(service)
    token = await service.make_token("admin", "bob")
    async with service.nothing_written():
        refusal = await refused(rpc.call(service.client(token=token)), Code.NOT_FOUND, "NOT_FOUND")
    assert refusal.text == "no user with id 'ann'"


@pytest.mark.parametrize("rpc", NAMES_NOBODY, ids=str)
async def test_a_token_of_one_user_may_not_call_what_names_none(service: RunningService, rpc: Rpc) -> None:
    await create(service)
    token = await service.make_token("admin", "ann")
    async with service.nothing_written():
        await refused(rpc.call(service.client(token=token)), Code.PERMISSION_DENIED, "PERMISSION_DENIED")


async def test_a_token_of_one_user_sees_that_user_only(service: RunningService) -> None:
    created = await create(service)
    client = service.client(token=await service.make_token("viewer", "ann"))
    assert await client.users.GetUser(pb.GetUserRequest(id="ann")) == created
    assert list((await client.users.ListUsers(pb.ListUsersRequest())).users) == [created]
