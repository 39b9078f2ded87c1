"""Several processes that serve one port: see :meth:`pywebtransport.server.ServerApp.run`.

* :mod:`.port`: the sockets, and the program in the kernel that gives each process its packets.
* :mod:`.supervisor`: starts workers, again when they die, anew on SIGHUP; ends them.
* :mod:`.worker`: the worker's side.
* :mod:`.channel`: what they say to each other.
"""

from __future__ import annotations

from pywebtransport.server.workers.worker import Worker, current_worker

__all__ = ["Worker", "current_worker"]
