"""The service Users: who there is, how they register, and how they show who they are."""

import os
import uuid
from contextlib import nullcontext
from dataclasses import replace

from nofx_grpc.crypto import otp, passwords
from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Violation,
)
from nofx_grpc.services.call import Call
from nofx_grpc.services.code_guesses import CodeGuesses
from nofx_grpc.services.convert import to_timestamp
from nofx_grpc.services.decision_keeping import DecisionKeeping
from nofx_grpc.services.fields import ResourceFields
from nofx_grpc.services.logins import (
    LoginOptions,
    Logins,
    account_of_email,
    account_of_id,
    otp_location,
    spend_token,
)
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.registration import code_to_spend
from nofx_grpc.services.templates import check_not_template
from nofx_grpc.store import accounts, revisions, traders, users
from nofx_grpc.store.engine import Connection
from nofx_grpc.store.resources import UNWRITTEN, etag_of
from nofx_grpc.store.revisions import Kind
from nofx_grpc.store.users import User
from nofx_grpc.v1 import common_pb2
from nofx_grpc.v1 import users_pb2 as pb

FIELDS = ResourceFields("user", pb.User.DESCRIPTOR, required=("email",), defaults={})


class Users:
    """Manages users, registers them, and proves who somebody is."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Users"]

    def __init__(
        self,
        envelope: Envelope,
        pages: Pages,
        options: LoginOptions,
        guesses: CodeGuesses,
        decisions: DecisionKeeping,
    ) -> None:
        self._envelope, self._pages, self._options = envelope, pages, options
        self._guesses, self._decisions = guesses, decisions
        self._logins = Logins(envelope, options)

    async def CreateUser(self, request: pb.CreateUserRequest, call: Call) -> pb.User:
        email = FIELDS.for_create(request.user)["email"]
        return await call.write(to_proto, accounts.create, new_user(request.user_id or new_id(), email))

    async def GetUser(self, request: pb.GetUserRequest, call: Call) -> pb.User:
        if request.WhichOneof("by") == "email":
            return await call.read(to_proto, users.get_by_email, request.email)
        return await call.read(to_proto, users.resource.get, request.id)

    async def ListUsers(self, request: pb.ListUsersRequest, call: Call) -> pb.ListUsersResponse:
        return await self._pages.answer(request, call, users.resource, to_proto, pb.ListUsersResponse)

    async def UpdateUser(self, request: pb.UpdateUserRequest, call: Call) -> pb.User:
        (id,) = FIELDS.key(request.user)
        check_not_template(id)
        changes = FIELDS.for_update(request.user, request.update_mask)

        def change(current: User) -> User:
            email = changes.get("email", current.email)
            if email == current.email:
                return current
            return replace(current, email=email, email_key=users.key_of_email(email))

        draft = (lambda: new_user(id, FIELDS.for_create(request.user)["email"])) if request.allow_missing else None
        return await call.write(to_proto, accounts.update, id, request.user.etag, change, draft)

    async def DeleteUser(self, request: pb.DeleteUserRequest, call: Call) -> pb.DeleteUserResponse:
        check_not_template(request.id)
        trader_ids = (await call.db.read(traders.of_user, request.id)).value
        return await call.write(
            lambda _: pb.DeleteUserResponse(),
            accounts.delete,
            request.id,
            request.etag,
            await self._decisions.claims(trader_ids),
            allow_missing=request.allow_missing,
            force=request.force,
        )

    async def RegisterUser(self, request: pb.RegisterUserRequest, call: Call) -> pb.RegisterUserResponse:
        check_password("password", request.password)
        secret = otp.new_secret(os.urandom)
        draft = self._with_secret(new_user(new_id(), request.email), secret)

        def work(connection: Connection, hash: str) -> User:
            code = code_to_spend(connection, request.beta_code)
            return accounts.register(
                connection, replace(draft, password_hash=hash), code=code, ttl=self._options.registration_ttl
            )

        async with self._guesses.guess(call) if request.beta_code else nullcontext():
            hash = await self._logins.new_hash(request.password)
            return await call.write(lambda user: registration(user, secret), work, hash)

    async def CompleteRegistration(
        self, request: pb.CompleteRegistrationRequest, call: Call
    ) -> pb.CompleteRegistrationResponse:
        def work(connection: Connection) -> User:
            user = users.resource.get(connection, request.user_id)
            if accounts.is_expired(connection, user):
                raise NotFound(Kind.USER, user.id)
            if user.otp_verified:
                raise FailedPrecondition(f"the registration of the user {user.id!r} is complete already")
            self._logins.accept_code(connection, user, request.otp_code)
            return accounts.complete(connection, user)

        async with self._logins.attempt(call, account_of_id(request.user_id)):
            return await call.write(lambda user: pb.CompleteRegistrationResponse(user=to_proto(user)), work)

    async def Authenticate(self, request: pb.AuthenticateRequest, call: Call) -> pb.AuthenticateResponse:
        def work(connection: Connection, user: User) -> pb.AuthenticateResponse:
            if user.otp_secret and not request.HasField("otp_code"):
                return self._challenge(connection, user)
            self._accept_second_factor(connection, user, request.otp_code)
            return pb.AuthenticateResponse(user=logged_in(connection, user))

        call.repeat_within = self._logins.options.token_ttl
        async with self._logins.attempt(call, account_of_email(request.email)) as attempt:
            answer = await self._logins.write_with_password(
                call, users.find_by_email, request.email, request.password, lambda answer: answer, work
            )
            attempt.half_done = answer.HasField("otp_challenge")
            return answer

    async def VerifyOtp(self, request: pb.VerifyOtpRequest, call: Call) -> pb.VerifyOtpResponse:
        call.repeat_within = self._logins.options.token_ttl
        token = self._logins.open_token(request.login_token)
        call.user_id = token.user_id if token else ""

        def work(connection: Connection) -> pb.VerifyOtpResponse:
            user = spend_token(connection, token)
            self._logins.accept_code(connection, user, request.otp_code)
            return pb.VerifyOtpResponse(user=logged_in(connection, user))

        async with self._logins.attempt(call, account_of_id(call.user_id)):
            return await call.write(lambda answer: answer, work)

    async def ChangePassword(self, request: pb.ChangePasswordRequest, call: Call) -> pb.ChangePasswordResponse:
        check_password("new_password", request.new_password)

        async with self._logins.attempt(call, account_of_id(request.user_id)):
            new_hash = await self._logins.hash(request.new_password)

            def work(connection: Connection, user: User) -> User:
                self._accept_second_factor(connection, user, request.otp_code)
                return users.resource.put(connection, replace(user, password_hash=new_hash), user)

            return await self._logins.write_with_password(
                call,
                users.resource.find,
                request.user_id,
                request.old_password,
                lambda _: pb.ChangePasswordResponse(),
                work,
            )

    async def SetPassword(self, request: pb.SetPasswordRequest, call: Call) -> pb.SetPasswordResponse:
        check_not_template(request.user_id)
        check_password("password", request.password)
        new_hash = await self._logins.new_hash(request.password)

        def work(connection: Connection) -> User:
            user = users.resource.get(connection, request.user_id)
            # Without an OTP secret there is no registration to complete: the admin vouches for the user.
            verified = user.otp_verified or not user.otp_secret
            changed = replace(user, password_hash=new_hash, otp_verified=verified)
            return users.resource.put(connection, changed, user)

        return await call.write(lambda _: pb.SetPasswordResponse(), work)

    async def ResetOtp(self, request: pb.ResetOtpRequest, call: Call) -> pb.ResetOtpResponse:
        secret = otp.new_secret(os.urandom)

        def reset(connection: Connection, user: User) -> pb.ResetOtpResponse:
            users.forget_step(connection, user.id)
            users.resource.put(connection, self._with_secret(user, secret), user)
            return pb.ResetOtpResponse(otp_secret=secret, otpauth_uri=otp.otpauth_uri(secret, user.email))

        def work_with_proof(connection: Connection, user: User) -> pb.ResetOtpResponse:
            self._accept_second_factor(connection, user, request.otp_code)
            return reset(connection, user)

        if request.HasField("password") or request.HasField("otp_code"):
            async with self._logins.attempt(call, account_of_id(request.user_id)):
                return await self._logins.write_with_password(
                    call,
                    users.resource.find,
                    request.user_id,
                    request.password,
                    lambda answer: answer,
                    work_with_proof,
                )
        call.require(common_pb2.PERMISSION_ADMIN, "ResetOtp without password and code")
        check_not_template(request.user_id)
        return await call.write(
            lambda answer: answer,
            lambda connection: reset(connection, users.resource.get(connection, request.user_id)),
        )

    def _accept_second_factor(self, connection: Connection, user: User, code: str) -> None:
        """Accept the code of a user who has OTP.  Raises LoginRefused, for no code as well."""
        if user.otp_secret:
            self._logins.accept_code(connection, user, code)

    def _challenge(self, connection: Connection, user: User) -> pb.AuthenticateResponse:
        token, expires_at = self._logins.new_token(user, revisions.scope(connection).now)
        revisions.touch(connection, Kind.USER, user.id, user.id, "challenge")
        challenge = pb.OtpChallenge(login_token=token, expire_time=to_timestamp(expires_at))
        return pb.AuthenticateResponse(otp_challenge=challenge)

    def _with_secret(self, user: User, secret: str) -> User:
        return replace(user, otp_secret=self._envelope.seal(secret, otp_location(user.id)))


def to_proto(user: User) -> pb.User:
    """The public resource: that there is a password, never its hash."""
    return pb.User(
        id=user.id,
        etag=etag_of(user),
        revision=user.revision,
        create_time=to_timestamp(user.created_at),
        update_time=to_timestamp(user.updated_at),
        email=user.email,
        otp_verified=user.otp_verified,
        password_set=bool(user.password_hash),
        can_log_in=user.can_log_in,
    )


def registration(user: User, secret: str) -> pb.RegisterUserResponse:
    """What a registration answers: the only time that the OTP secret is shown."""
    expires_at = user.registration_expires_at
    return pb.RegisterUserResponse(
        user=to_proto(user),
        otp_secret=secret,
        otpauth_uri=otp.otpauth_uri(secret, user.email),
        expire_time=to_timestamp(expires_at) if expires_at else None,
    )


def logged_in(connection: Connection, user: User) -> pb.User:
    """The user who has just logged in, named in the audit record."""
    revisions.touch(connection, Kind.USER, user.id, user.id, "log in")
    return to_proto(user)


def new_user(id: str, email: str) -> User:
    """A user without password and OTP secret."""
    return User(
        id=id,
        email=email,
        email_key=users.key_of_email(email),
        password_hash="",
        otp_secret="",
        otp_verified=False,
        registration_expires_at=None,
        registration_code="",
        **UNWRITTEN,
    )


def new_id() -> str:
    """An id for a new user."""
    return str(uuid.uuid4())


def check_password(field: str, password: str) -> None:
    """Raises InvalidArgument for a new password that is too weak, without telling the password."""
    problem = passwords.check_strength(password)
    if problem:
        raise InvalidArgument(Violation(field, problem))
