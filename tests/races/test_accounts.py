"""What two servers do at the same moment to users, codes and tokens: what is good once is good once."""

import re
from pathlib import Path

import pytest

from nofx_grpc.v1 import admin_pb2, audit_pb2, beta_codes_pb2, common_pb2, keys_pb2, system_config_pb2, users_pb2
from tests.races.ring import PASSWORD, Ring, refusals
from tests.support.rpcs import METHODS, permission_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_one_email(ring: Ring) -> None:
    email, one, two = ring.new("email") + "@example.com", await ring.user(), await ring.user()
    create = users_pb2.CreateUserRequest(user=users_pb2.User(email=email))
    assert refusals(await ring.both(create)) == ["ALREADY_EXISTS"]
    email = ring.new("email") + "@example.com"
    first, second = (
        users_pb2.UpdateUserRequest(user=users_pb2.User(id=id, email=address))
        for id, address in ((one, email), (two, email.upper()))
    )
    assert refusals(await ring.both(first, second)) == ["ALREADY_EXISTS"], "case makes no other e-mail"


async def test_one_beta_code(ring: Ring) -> None:
    await set_beta_mode(ring, "true")
    codes = [code.code for code in (await ring.send(beta_codes_pb2.GenerateBetaCodesRequest(count=3))).beta_codes]
    one, two = (
        users_pb2.RegisterUserRequest(email=ring.new("p") + "@example.com", password=PASSWORD, beta_code=codes[0])
        for _ in range(2)
    )
    assert refusals(await ring.both(one, two)) == ["BETA_CODE_INVALID"]
    email = ring.new("p") + "@example.com"
    one, two = (users_pb2.RegisterUserRequest(email=email, password=PASSWORD, beta_code=code) for code in codes[1:])
    assert refusals(await ring.both(one, two)) == ["ALREADY_EXISTS"]
    spent = ring.rows("SELECT code FROM beta_codes WHERE used AND code = ANY(%s)", codes)
    assert len(spent) == 2, "who is refused has spent nothing"
    await set_beta_mode(ring, "false")


async def test_redeem_and_delete_one_code(ring: Ring) -> None:
    user = await ring.user()
    codes = [code.code for code in (await ring.send(beta_codes_pb2.GenerateBetaCodesRequest(count=3))).beta_codes]
    redeem = [beta_codes_pb2.RedeemBetaCodeRequest(user_id=user, code=code) for code in codes]
    assert refusals(await ring.both(redeem[0])) == ["BETA_CODE_INVALID"]
    redeemed, deleted = await ring.both(redeem[1], beta_codes_pb2.DeleteBetaCodeRequest(code=codes[1]))
    assert not isinstance(deleted, str) and (redeemed == "BETA_CODE_INVALID" or not isinstance(redeemed, str))
    assert refusals(await ring.both(beta_codes_pb2.DeleteBetaCodeRequest(code=codes[2]))) == ["NOT_FOUND"]


async def test_import_and_generate_codes(ring: Ring) -> None:
    before = ring.rows("SELECT count(*) FROM beta_codes")[0][0]
    data = "".join(ring.new("import") + "\n" for _ in range(50)).encode()
    one, two = await ring.both(beta_codes_pb2.ImportBetaCodesRequest(data=data))
    assert isinstance(one, beta_codes_pb2.ImportBetaCodesResponse)
    assert isinstance(two, beta_codes_pb2.ImportBetaCodesResponse)
    assert sorted((one.imported_count, two.imported_count)) == [0, 50]
    assert refusals(await ring.both(beta_codes_pb2.GenerateBetaCodesRequest(count=5))) == []
    assert ring.rows("SELECT count(*) FROM beta_codes") == [(before + 60,)]


async def test_complete_one_registration(ring: Ring) -> None:
    person = await ring.registered(complete=False)
    assert refusals(await ring.both(person.completion(step=0))) in (["FAILED_PRECONDITION"], ["LOGIN_REFUSED"])
    assert ring.rows("SELECT otp_verified FROM users WHERE id = %s", person.id) == [(True,)]


async def test_one_code_for_two_logins(ring: Ring) -> None:
    person = await ring.registered()
    request = users_pb2.AuthenticateRequest(email=person.email, password=PASSWORD, otp_code=person.code(step=1))
    assert refusals(await ring.both(request)) == ["LOGIN_REFUSED"]


async def test_one_login_token(ring: Ring) -> None:
    """Spent once, though there is a good code for each."""
    person = await ring.registered()
    challenge = await ring.send(users_pb2.AuthenticateRequest(email=person.email, password=PASSWORD))
    token = challenge.otp_challenge.login_token
    one, two = (users_pb2.VerifyOtpRequest(login_token=token, otp_code=person.code(step=step)) for step in (0, 1))
    assert refusals(await ring.both(one, two)) == ["LOGIN_REFUSED"]


async def test_change_one_password(ring: Ring) -> None:
    person = await ring.registered()
    one, two = (
        users_pb2.ChangePasswordRequest(
            user_id=person.id, old_password=PASSWORD, new_password=f"{PASSWORD} {step}", otp_code=person.code(step)
        )
        for step in (0, 1)
    )
    assert refusals(await ring.both(one, two)) == ["LOGIN_REFUSED"]


async def test_set_one_password(ring: Ring) -> None:
    person = await ring.registered()
    one, two = (
        users_pb2.SetPasswordRequest(user_id=person.id, password=f"{PASSWORD} {name}") for name in ("one", "two")
    )
    assert refusals(await ring.both(one, two)) == []
    reset = users_pb2.ResetOtpRequest(user_id=person.id)
    assert refusals(await ring.both(reset)) == []


async def test_tokens(ring: Ring) -> None:
    token = admin_pb2.Token(display_name="test", role=common_pb2.ROLE_VIEWER)
    request = admin_pb2.CreateTokenRequest(token=token, request_id=ring.new("request"))
    one, two = await ring.both(request)
    assert isinstance(one, admin_pb2.Token) and one == two
    revoke = admin_pb2.RevokeTokenRequest(id=one.id)
    one_answer, two_answer = await ring.both(revoke)
    assert not isinstance(one_answer, str) and one_answer == two_answer, "revoked once, at one time"


async def test_keys(ring: Ring) -> None:
    await ring.exchange(await ring.user())
    one, two = await ring.both(keys_pb2.RotateKeyRequest())
    assert isinstance(one, keys_pb2.RotateKeyResponse) and isinstance(two, keys_pb2.RotateKeyResponse)
    primary = ring.rows("SELECT id FROM keyring WHERE purpose = 'data' AND state = 'primary'")
    assert len(primary) == 1 and primary[0][0] in {one.key.id, two.key.id}, "one after the other"
    assert refusals(await ring.both(keys_pb2.ReencryptRequest())) == []
    async for _ in ring.clients[0].admin.Reencrypt(keys_pb2.ReencryptRequest()):
        pass
    for response in (one, two):
        retire = keys_pb2.RetireKeyRequest(id=response.previous.id)
        assert refusals(await ring.both(retire)) == ["NOT_FOUND"]


async def test_prune_the_audit_log(ring: Ring) -> None:
    await ring.user()
    request = audit_pb2.PruneAuditRequest()
    request.before.GetCurrentTime()
    one, two = await ring.both(request)
    assert isinstance(one, audit_pb2.PruneAuditResponse) and isinstance(two, audit_pb2.PruneAuditResponse)
    assert one.pruned_count + two.pruned_count > 0
    verified = await ring.send(audit_pb2.VerifyAuditRequest())
    assert verified.ok, verified


async def set_beta_mode(ring: Ring, value: str) -> None:
    setting = system_config_pb2.ConfigSetting(key="beta_mode", value=value)
    await ring.send(system_config_pb2.SetSystemConfigRequest(settings=[setting]))


# ---- completeness

READING = {"READ", "REVEAL", "REVEAL_SYSTEM"}
READ_BY_ADMIN = {
    f"Admin.{name}" for name in ("ListTokens", "ListKeys", "ListAuditEvents", "VerifyAudit", "ExportAuditHead")
}


def test_every_write_is_raced() -> None:
    raced = set(
        re.findall(r"\.(\w+)Request\(", "".join(path.read_text() for path in Path(__file__).parent.glob("*.py")))
    )
    writes = {name for name, method in METHODS.items() if permission_of(method) not in READING}
    missing = {
        name for name in writes - READ_BY_ADMIN if METHODS[name].input_type.name.removesuffix("Request") not in raced
    }
    assert missing == set(), "add a race of it to tests/races"
