"""`nofx-grpc keys`: the keyring of a running server."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nofx_grpc.cli.progress import bar
from nofx_grpc.cli.remote import connected
from nofx_grpc.redaction import escaped
from nofx_grpc.v1 import keys_pb2 as pb

# To count, a server reads every table with sealed values.
SECONDS = 600.0
_MOST_SHOWN = 10


def list_keys() -> list[dict[str, Any]]:
    """Every key, with what it seals."""
    with connected("admin") as nofx:
        return [_report(key) for key in nofx.with_options(timeout=SECONDS).admin.list_keys.all()]


def rotate() -> dict[str, str]:
    """The new key and the one before."""
    with connected("admin") as nofx:
        answer = nofx.admin.rotate_key()
    return {"key": answer.key.id, "previous": answer.previous.id}


def reencrypt() -> dict[str, Any]:
    """How it came out; how far it is, is shown on a terminal."""
    unreadable: list[pb.UnreadableValue] = []
    last = pb.ReencryptResponse()
    with connected("admin") as nofx, bar() as tell:
        for last in nofx.admin.reencrypt():
            unreadable += last.unreadable
            tell("re-encrypt", last.done_count, last.total_count)
    return {
        "key": last.key_id,
        "resealed": last.resealed_count,
        "unreadable": [
            {name: getattr(value, name) for name in ("table", "column", "user_id", "row_id", "key_id")}
            for value in unreadable
        ],
    }


def retire(key_id: str) -> dict[str, str]:
    """The key that was removed."""
    with connected("admin") as nofx:
        nofx.with_options(timeout=SECONDS).admin.retire_key(id=key_id)
    return {"retired": key_id}


def show(keys: list[dict[str, Any]]) -> None:
    """Print the keys for people."""
    table = Table("id", "purpose", "state", "made")
    table.add_column("values", justify="right")
    for key in keys:
        values = str(key["values"]) if key["purpose"] == "data" else ""
        row = (key["id"], key["purpose"], key["state"], key["create_time"][:10])
        table.add_row(*(Text(escaped(cell)) for cell in row), values)
    Console(highlight=False).print(table)
    for key in keys:
        if key["uses"]:
            uses = ", ".join(f"{use['table']}.{use['column']} {use['values']}" for use in key["uses"])
            print(escaped(f"{key['id']} seals {uses}"))


def show_rotated(report: Mapping[str, str]) -> None:
    """Print which key seals now."""
    text = f"{report['key']} seals from now on, {report['previous']} only opens: run 'nofx-grpc keys reencrypt'"
    print(escaped(text))


def show_retired(report: Mapping[str, str]) -> None:
    """Print which key is gone."""
    print(escaped(f"{report['retired']} is gone"))


def show_reencrypted(report: Mapping[str, Any]) -> None:
    """Print what was sealed anew, and what was not."""
    print(escaped(f"{report['resealed']} values are sealed by {report['key']} now"))
    unreadable = report["unreadable"]
    if unreadable:
        print(f"{len(unreadable)} do not open and were left as they are; enter these secrets again:")
    for value in unreadable[:_MOST_SHOWN]:
        place = " ".join(part for part in (value["user_id"], value["row_id"]) if part)
        print(escaped(f"  {value['table']}.{value['column']} of {place}: sealed by {value['key_id'] or 'no key'}"))
    if len(unreadable) > _MOST_SHOWN:
        print(f"  and {len(unreadable) - _MOST_SHOWN} more: --json lists them all")


def _report(key: pb.Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "purpose": pb.KeyPurpose.Name(key.purpose).removeprefix("KEY_PURPOSE_").lower(),
        "state": pb.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower(),
        "algorithm": key.algorithm,
        "create_time": key.create_time.ToJsonString(),
        "values": key.value_count,
        "uses": [{"table": use.table, "column": use.column, "values": use.value_count} for use in key.uses],
    }
