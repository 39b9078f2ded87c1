"""What operators look at: figures for Prometheus and OpenTelemetry, and a log for programs.

``server.snapshot()`` has the figures themselves.
"""

from pywebtransport.server.ledger import ServerSnapshot, Traffic
from pywebtransport.telemetry.logs import JsonLogFormatter
from pywebtransport.telemetry.metrics import METRICS, Metric, Sample
from pywebtransport.telemetry.opentelemetry import instrument
from pywebtransport.telemetry.prometheus import MetricsServer, PrometheusCollector

__all__ = [
    "METRICS",
    "JsonLogFormatter",
    "Metric",
    "MetricsServer",
    "PrometheusCollector",
    "Sample",
    "ServerSnapshot",
    "Traffic",
    "instrument",
]
