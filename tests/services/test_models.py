"""Models over a real server: what they do not have in common with other resources."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nofx_grpc.services.models import new_model_id
from nofx_grpc.v1 import models_pb2 as pb
from tests.support.service import Client, RunningService, refused

Code = grpc.StatusCode

KEY = "model-key-plaintext-41d8"
URL = "https://user:url-password-2c7f@llm.example.com:8443/v1/chat?token=url-token-9e0a#part"


@pytest.fixture(autouse=True)
async def users(service: RunningService) -> None:
    await service.add_users("alice", "bob")


async def create(client: Client, user_id: str = "alice", *, model_id: str | None = None, **fields: Any) -> pb.Model:
    model = pb.Model(**({"name": "Mine", "provider": "deepseek", "api_key": KEY} | fields))
    return await client.models.CreateModel(pb.CreateModelRequest(user_id=user_id, model=model, model_id=model_id))


async def update(client: Client, id: str, *paths: str, allow_missing: bool = False, **fields: Any) -> pb.Model:
    model = pb.Model(user_id="alice", id=id, **fields)
    mask = FieldMask(paths=paths)
    return await client.models.UpdateModel(
        pb.UpdateModelRequest(model=model, update_mask=mask, allow_missing=allow_missing)
    )


async def credentials(service: RunningService, id: str) -> pb.ModelCredentials:
    request = pb.AccessModelCredentialsRequest(user_id="alice", id=id)
    return (await service.client("engine").models.AccessModelCredentials(request)).credentials


# ---- ids


async def test_the_service_makes_ids(service: RunningService) -> None:
    gateway = service.client("gateway")
    first, second = await create(gateway), await create(gateway)
    assert first.id.startswith("deepseek_") and len(first.id) == len("deepseek_") + 16
    assert first.id != second.id


@pytest.mark.parametrize(
    ("provider", "start"),
    [("DeepSeek", "deepseek_"), ("a/b c", "a-b-c_"), ("../x", "x_"), ("通义千问", "model_"), ("gpt-4.1", "gpt-4.1_")],
)
def test_an_id_tells_the_provider_and_can_be_a_file_name(provider: str, start: str) -> None:
    id = new_model_id(provider)
    assert id.startswith(start) and "/" not in id


async def test_only_admin_chooses_an_id(service: RunningService) -> None:
    async with service.nothing_written():
        for call in (
            create(service.client("gateway"), model_id="mine"),
            update(service.client("gateway"), "mine", allow_missing=True, name="N", provider="qwen"),
        ):
            refusal = await refused(call, Code.PERMISSION_DENIED, "PERMISSION_DENIED")
            assert refusal.text == "choosing the id of a model needs the permission ADMIN"
    assert await service.last_record("outcome", "user_id") == ("DENIED", "alice")
    assert (await create(service.client("admin"), model_id="mine")).id == "mine"


async def test_allow_missing_lets_others_change_what_is_there(service: RunningService) -> None:
    await create(service.client("admin"), model_id="mine")
    updated = await update(service.client("gateway"), "mine", "name", allow_missing=True, name="New")
    assert updated.name == "New"


async def test_an_id_of_another_user_is_taken(service: RunningService) -> None:
    await create(service.client(), "bob", model_id="one")
    async with service.nothing_written():
        refusal = await refused(create(service.client(), model_id="one"), Code.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.text == "a model with id 'one' already exists"


# ---- the URL


async def test_a_url_is_shown_without_its_credentials(service: RunningService) -> None:
    created = await create(service.client(), custom_api_url=URL)
    assert created.custom_api_url_redacted == "https://llm.example.com:8443/v1/chat"
    assert created.custom_api_url_set and len(created.custom_api_url_fingerprint) == 8
    for stored in (str(created), str(await service.contents()), str(await service.rows("SELECT * FROM audit_log"))):
        assert "url-password" not in stored and "url-token" not in stored
    revealed = await credentials(service, created.id)
    assert (revealed.api_key, revealed.custom_api_url) == (KEY, URL)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://llm.example.com/url-token-9e0a", "must be an http or https URL"),
        ("llm.example.com/?token=url-token-9e0a", "must be an http or https URL"),
        ("https://llm.example.com/ ?token=url-token-9e0a", "must be an http or https URL"),
        ("https://?token=url-token-9e0a", "is no URL with a host"),
        ("https://user:url-token-9e0a@/path", "is no URL with a host"),
        ("https://[::1/?token=url-token-9e0a", "is no URL with a host"),
        ("https://llm.example.com:99999/?token=url-token-9e0a", "is no URL with a host"),
    ],
)
async def test_what_is_no_url_is_refused_and_not_repeated(service: RunningService, url: str, complaint: str) -> None:
    model = await create(service.client(), custom_api_url=URL)
    async with service.nothing_written():
        for call in (
            create(service.client(), custom_api_url=url),
            update(service.client(), model.id, "custom_api_url", "api_key", custom_api_url=url, api_key=KEY),
        ):
            refusal = await refused(call, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT")
            assert refusal.violations == {"model.custom_api_url": complaint}
            assert "url-token" not in str(refusal)


# ---- the key and where it is sent


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": "qwen"},
        {"custom_api_url": "https://elsewhere.example.com/v1/chat"},
        {"custom_api_url": URL.replace("url-token", "other-token")},
        {"custom_api_url": ""},
    ],
    ids=["provider", "host", "query", "cleared"],
)
async def test_redirecting_the_stored_key_needs_the_key(service: RunningService, fields: dict[str, Any]) -> None:
    model = await create(service.client(), custom_api_url=URL)
    changed = next(iter(fields))
    async with service.nothing_written():
        refusal = await refused(
            update(service.client(), model.id, changed, **fields),
            Code.FAILED_PRECONDITION,
            "SECRET_MUST_BE_REENTERED",
        )
    assert refusal.metadata == {"changed": changed, "secrets": "api_key"} and "url-" not in str(refusal)
    await update(service.client(), model.id, changed, "api_key", api_key="K-2", **fields)
    assert (await credentials(service, model.id)).api_key == "K-2"


async def test_an_empty_key_without_a_mask_is_not_reentered(service: RunningService) -> None:
    model = await create(service.client())
    call = update(service.client(), model.id, provider="qwen", api_key="")
    await refused(call, Code.FAILED_PRECONDITION, "SECRET_MUST_BE_REENTERED")


async def test_what_is_sent_nowhere_yet_may_be_redirected(service: RunningService) -> None:
    model = await create(service.client(), api_key="")
    assert (await update(service.client(), model.id, "provider", provider="qwen")).provider == "qwen"


async def test_the_same_place_again_redirects_nothing(service: RunningService) -> None:
    model = await create(service.client(), custom_api_url=URL)
    updated = await update(
        service.client(),
        model.id,
        "custom_api_url",
        "provider",
        "name",
        custom_api_url=URL,
        provider="deepseek",
        name="N",
    )
    assert updated.name == "N" and updated.api_key_fingerprint == model.api_key_fingerprint


async def test_a_url_whose_fingerprint_alone_is_the_same_is_another_one(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.app.envelope, "_fingerprint", lambda *_: "00000000")
    model = await create(service.client(), custom_api_url=URL)
    call = update(service.client(), model.id, "custom_api_url", custom_api_url="https://elsewhere.example.com/v1")
    await refused(call, Code.FAILED_PRECONDITION, "SECRET_MUST_BE_REENTERED")


# ---- templates


async def test_supported_models_are_the_templates(service: RunningService) -> None:
    await create(service.client())
    scoped = service.client(token=await service.make_token("viewer", "alice"))
    listed = await scoped.models.ListSupportedModels(pb.ListSupportedModelsRequest())
    assert list(listed.models) == [
        pb.SupportedModel(id="deepseek", name="DeepSeek", provider="deepseek"),
        pb.SupportedModel(id="qwen", name="Qwen", provider="qwen"),
    ]
