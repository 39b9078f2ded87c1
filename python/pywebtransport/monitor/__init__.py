"""Watching clients, servers and datagram transports: samples, histories, alerts."""

from pywebtransport.monitor.client import ClientMonitor
from pywebtransport.monitor.datagram import DatagramMonitor
from pywebtransport.monitor.server import ServerMonitor

__all__ = ["ClientMonitor", "DatagramMonitor", "ServerMonitor"]
