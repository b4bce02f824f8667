"""From an error of gRPC to one of ours."""

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from nofx_grpc.client.errors import Failure, NofxClientError, Violation, error_of
from nofx_grpc.client.revisions import Metadata

DOMAIN = "nofx-grpc"
_DETAILS_KEY = "grpc-status-details-bin"


def client_error(error: grpc.RpcError, method: str, request_id: str) -> NofxClientError:
    """What a failed call of gRPC's means; what is not the service's own has no reason."""
    info, bad, retry = _details(error.trailing_metadata() or ())
    ours = info.domain == DOMAIN
    return error_of(
        Failure(
            method=method,
            code=error.code(),
            message=error.details() or "",
            reason=info.reason if ours else "",
            metadata=dict(info.metadata) if ours else {},
            violations=tuple(Violation(found.field, found.description) for found in bad.field_violations),
            retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
            request_id=request_id,
        )
    )


def _details(
    metadata: Metadata,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    packed = next((value for key, value in metadata if key == _DETAILS_KEY), b"")
    try:
        for detail in status_pb2.Status.FromString(packed).details:
            for message in (info, bad, retry):
                detail.Unpack(message)  # does nothing where the detail is of another type
    except DecodeError:
        pass  # a proxy's, not ours: the code and the text remain
    return info, bad, retry
