"""What operators look at: figures for Prometheus and OpenTelemetry, and a log for programs.

``server.snapshot()`` has the figures themselves.
"""

from pywebtransport.server.ledger import ServerSnapshot, Traffic
from pywebtransport.telemetry.logs import JsonLogFormatter
from pywebtransport.telemetry.opentelemetry import instrument
from pywebtransport.telemetry.prometheus import MetricsServer, PrometheusCollector

__all__ = [
    "JsonLogFormatter",
    "MetricsServer",
    "PrometheusCollector",
    "ServerSnapshot",
    "Traffic",
    "instrument",
]
