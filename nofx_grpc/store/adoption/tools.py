"""What the load of one source works with."""

from dataclasses import dataclass
from datetime import datetime

from nofx_grpc.store.adoption.aside import Aside
from nofx_grpc.store.adoption.convert import Converter
from nofx_grpc.store.adoption.report import Report
from nofx_grpc.store.adoption.rules import ConfigRules
from nofx_grpc.store.adoption.secrets import SecretSealer
from nofx_grpc.store.adoption.source import Source


@dataclass(frozen=True, slots=True)
class Tools:
    source: Source
    converter: Converter
    sealer: SecretSealer
    aside: Aside
    report: Report
    rules: ConfigRules
    now: datetime
