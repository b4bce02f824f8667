"""People who register and log in, as tests play them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bcrypt
from pyotp import TOTP

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.v1 import users_pb2 as pb
from tests.support.service import RunningService

PASSWORD = "correct horse"
NEW_PASSWORD = "battery staple"
OTP_SECRET = "TXF7W7GTEC7ATYWZMW6EDAV3Q3IHHCA6"


@dataclass(frozen=True)
class Person:
    """Somebody who has registered, with the authenticator app in hand."""

    id: str
    email: str
    password: str
    secret: str

    def code(self, at: datetime) -> str:
        return TOTP(self.secret).at(at)


async def create(
    service: RunningService, email: str = "ann@example.com", id: str | None = "ann", **fields: Any
) -> pb.User:
    request = pb.CreateUserRequest(user=pb.User(email=email), user_id=id, **fields)
    return await service.client().users.CreateUser(request)


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


async def adopt(
    service: RunningService, email: str, password: str | None, *, otp: bool = True, verified: bool = True
) -> Person:
    """A user as adoption leaves one: NOFX's bcrypt, and the OTP secret sealed."""
    hash = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, b"2a")).decode() if password else ""
    secret = service.app.envelope.seal(OTP_SECRET, Location("users", "otp_secret", email, "")) if otp else ""
    await service.execute(
        "INSERT INTO users (id, email, email_key, password_hash, otp_secret, otp_verified, revision)"
        " VALUES (?, ?, ?, ?, ?, ?, 1)",
        *(email, email, email, hash, secret, verified),
    )
    return Person(email, email, password or "", OTP_SECRET)


async def challenge(service: RunningService, person: Person) -> str:
    return (await authenticate(service, person.email, person.password)).otp_challenge.login_token


async def change_password(
    service: RunningService, user_id: str, old: str, new: str, code: str | None = None, **fields: str
) -> None:
    request = pb.ChangePasswordRequest(user_id=user_id, old_password=old, new_password=new, otp_code=code, **fields)
    await service.client("gateway").users.ChangePassword(request)


async def reset_otp(service: RunningService, user_id: str, role: str = "gateway", **fields: str) -> pb.ResetOtpResponse:
    return await service.client(role).users.ResetOtp(pb.ResetOtpRequest(user_id=user_id, **fields))


async def set_password(service: RunningService, user_id: str, password: str) -> None:
    await service.client().users.SetPassword(pb.SetPasswordRequest(user_id=user_id, password=password))
