"""People who register and log in, as tests play them."""

from dataclasses import dataclass
from datetime import datetime

from pyotp import TOTP

from nofx_grpc.v1 import users_pb2 as pb
from tests.support.service import RunningService

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Person:
    """Somebody who has registered, with the authenticator app in hand."""

    id: str
    email: str
    password: str
    secret: str

    def code(self, at: datetime) -> str:
        return TOTP(self.secret).at(at)


async def register(
    service: RunningService, email: str = "ann@example.com", *, password: str = PASSWORD, **fields: str
) -> Person:
    """Begin a registration."""
    request = pb.RegisterUserRequest(email=email, password=password, **fields)
    answer = await service.client("gateway").users.RegisterUser(request)
    return Person(answer.user.id, email, password, answer.otp_secret)


async def complete(service: RunningService, person: Person, at: datetime) -> pb.User:
    request = pb.CompleteRegistrationRequest(user_id=person.id, otp_code=person.code(at))
    return (await service.client("gateway").users.CompleteRegistration(request)).user


async def authenticate(
    service: RunningService, email: str, password: str, code: str | None = None, **fields: str
) -> pb.AuthenticateResponse:
    request = pb.AuthenticateRequest(email=email, password=password, otp_code=code, **fields)
    return await service.client("gateway").users.Authenticate(request)


async def verify_otp(service: RunningService, login_token: str, code: str, **fields: str) -> pb.User:
    request = pb.VerifyOtpRequest(login_token=login_token, otp_code=code, **fields)
    return (await service.client("gateway").users.VerifyOtp(request)).user
