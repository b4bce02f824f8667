"""The service Models: users' access to AI models, and the API keys of it."""

import re
import secrets
from dataclasses import replace
from typing import Any

from nofx_grpc.crypto.envelope import Envelope
from nofx_grpc.services.call import Call
from nofx_grpc.services.convert import open_fields, seal_fields, shown_secrets, to_timestamp
from nofx_grpc.services.fields import ResourceFields
from nofx_grpc.services.pages import Pages
from nofx_grpc.services.secret_rules import check_reentered
from nofx_grpc.services.templates import check_may_write
from nofx_grpc.store import models
from nofx_grpc.store.models import Model
from nofx_grpc.store.resources import UNWRITTEN, etag_of
from nofx_grpc.store.users import DEFAULT_USER
from nofx_grpc.v1 import common_pb2
from nofx_grpc.v1 import models_pb2 as pb

SECRETS = ("api_key", "custom_api_url")

FIELDS = ResourceFields(
    "model",
    pb.Model.DESCRIPTOR,
    required=("name", "provider"),
    defaults={"enabled": False, "api_key": "", "custom_api_url": "", "custom_model_name": ""},
)


class Models:
    """Creates, reads, changes and deletes models; reveals their credentials to whoever may have them."""

    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["Models"]

    def __init__(self, envelope: Envelope, pages: Pages) -> None:
        self._envelope, self._pages = envelope, pages

    async def CreateModel(self, request: pb.CreateModelRequest, call: Call) -> pb.Model:
        check_may_write(call, request.user_id)
        if request.model_id:
            call.require(common_pb2.PERMISSION_ADMIN, "choosing the id of a model")
        id = request.model_id or new_model_id(request.model.provider)
        draft = self._draft(request.user_id, id, request.model)
        return await call.write(to_proto, models.resource.create, draft)

    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.Model:
        return await call.get(to_proto, models.resource.get, request.user_id, request.id)

    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        return await self._pages.answer(request, call, models.resource, to_proto, pb.ListModelsResponse)

    async def UpdateModel(self, request: pb.UpdateModelRequest, call: Call) -> pb.Model:
        message = request.model
        key = user_id, id = FIELDS.key(message)
        check_may_write(call, user_id)
        changes = self._seal(user_id, id, FIELDS.for_update(message, request.update_mask))

        def change(current: Model) -> Model:
            check_reentered(current, changes, where=("custom_api_url", "provider"), secrets=("api_key",))
            return replace(current, **changes)

        def draft() -> Model:
            call.require(common_pb2.PERMISSION_ADMIN, "choosing the id of a model")
            return self._draft(user_id, id, message)

        missing = draft if request.allow_missing else None
        return await call.write(to_proto, models.resource.update, key, message.etag, change, missing)

    async def DeleteModel(self, request: pb.DeleteModelRequest, call: Call) -> pb.DeleteModelResponse:
        check_may_write(call, request.user_id)
        return await call.write(
            lambda _: pb.DeleteModelResponse(),
            models.delete,
            request.user_id,
            request.id,
            request.etag,
            allow_missing=request.allow_missing,
        )

    async def ListSupportedModels(
        self, request: pb.ListSupportedModelsRequest, call: Call
    ) -> pb.ListSupportedModelsResponse:
        return await self._pages.answer(
            request, call, models.resource, to_supported, pb.ListSupportedModelsResponse, user_id=DEFAULT_USER
        )

    async def AccessModelCredentials(
        self, request: pb.AccessModelCredentialsRequest, call: Call
    ) -> pb.AccessModelCredentialsResponse:
        return await call.reveal(
            lambda model: pb.AccessModelCredentialsResponse(
                credentials=credentials(self._envelope, model), revision=model.revision
            ),
            models.resource.get,
            request.user_id,
            request.id,
        )

    def _draft(self, user_id: str, id: str, message: pb.Model) -> Model:
        return Model(id=id, user_id=user_id, **self._seal(user_id, id, FIELDS.for_create(message)), **UNWRITTEN)

    def _seal(self, user_id: str, id: str, values: dict[str, Any]) -> dict[str, Any]:
        return seal_fields(self._envelope, values, models.ai_models.name, SECRETS, user_id=user_id, row_id=id)


def to_proto(model: Model) -> pb.Model:
    """The public resource: fingerprints where the secrets are."""
    return pb.Model(
        user_id=model.user_id,
        id=model.id,
        etag=etag_of(model),
        revision=model.revision,
        create_time=to_timestamp(model.created_at),
        update_time=to_timestamp(model.updated_at),
        name=model.name,
        provider=model.provider,
        enabled=model.enabled,
        custom_model_name=model.custom_model_name,
        **shown_secrets(model, SECRETS),
    )


def to_supported(template: Model) -> pb.SupportedModel:
    """A template as users choose it."""
    return pb.SupportedModel(id=template.id, name=template.name, provider=template.provider)


def credentials(envelope: Envelope, model: Model) -> pb.ModelCredentials:
    """The secrets of a model in the clear.  Raises SecretUnreadable."""
    table = models.ai_models.name
    return pb.ModelCredentials(**open_fields(envelope, model, table, SECRETS, user_id=model.user_id, row_id=model.id))


def new_model_id(provider: str) -> str:
    """A new id that tells the provider to whoever reads a log, and is unique among all users' models.

    Other than NOFX's `<user>_<provider>` it lets a user have two models of one provider.  It has no '/', which would
    nest the folders that NOFX names after ids.
    """
    readable = re.sub(r"[^a-z0-9.-]+", "-", provider.lower()).strip("-.")
    return f"{readable or 'model'}_{secrets.token_hex(8)}"
