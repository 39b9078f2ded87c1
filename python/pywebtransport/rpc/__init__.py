"""Remote procedure calls, both ways, over one bidirectional stream.

Both sides wrap the same stream in an :class:`RpcManager`; each may register functions and call
the other's. The wire format is that of PyWebTransport 0.8, or JSON-RPC 2.0 on request::

    async with RpcManager(stream=stream, session_id=session.session_id) as rpc:
        rpc.register(func=add)
        print(await rpc.call("multiply", 6, 7))
"""

from __future__ import annotations

from pywebtransport.rpc.batch import RpcBatch
from pywebtransport.rpc.exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
)
from pywebtransport.rpc.manager import RpcManager
from pywebtransport.rpc.protocol import RpcErrorResponse, RpcRequest, RpcSuccessResponse

__all__ = [
    "InvalidParamsError",
    "MethodNotFoundError",
    "RpcBatch",
    "RpcError",
    "RpcErrorCode",
    "RpcErrorResponse",
    "RpcManager",
    "RpcRequest",
    "RpcSuccessResponse",
    "RpcTimeoutError",
]
