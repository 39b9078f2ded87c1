"""The application's lifespan: told of the start and of the end of its server."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

from pywebtransport.asgi._scope import ASGI_VERSION
from pywebtransport.asgi._types import App, Message
from pywebtransport.exceptions import ServerError

__all__ = ["Lifespan", "LifespanMode"]

logger = logging.getLogger("pywebtransport.server")

LIFESPAN_SPEC_VERSION = "2.0"
FAREWELL = 1.0
"""Seconds that an application has to return that could not start."""
LifespanMode = Literal["auto", "on", "off"]


class Lifespan:
    """Calls the application once, with the scope ``lifespan``.

    mode: ``"auto"``: an application that raises rather than answers the startup has none, which is
        logged; ``"on"``: then the server does not start; ``"off"``: it is not called.
    """

    def __init__(self, app: App, mode: LifespanMode) -> None:
        if mode not in ("auto", "on", "off"):
            raise ValueError(f"lifespan must be 'auto', 'on' or 'off', it is {mode!r}")
        self._app = app
        self._mode = mode
        self.state: dict[str, Any] = {}
        """What the application has put into ``scope["state"]``; requests get copies."""
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message] | None = None
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Return when the application has started.

        Raises:
            ServerError: It could not.
        """
        if self._mode == "off":
            return
        self.state.clear()
        self._messages = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            answer = await self._ask("startup")
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if answer is None:
            error = None if self._task.cancelled() else self._task.exception()
            if self._mode == "on":
                what = "returned" if error is None else f"raised {error!r}"
                raise ServerError(
                    f"the application {what} rather than answered lifespan.startup;"
                    " lifespan='auto' starts without"
                ) from error
            if error is not None:
                logger.info("the application takes no lifespan: %r", error)
        elif answer["type"] == "lifespan.startup.failed":
            await asyncio.wait((self._task,), timeout=FAREWELL)
            self._task.cancel()
            raise ServerError(
                f"the application failed to start: {answer.get('message') or 'it gave no reason'}"
            )

    async def shutdown(self) -> None:
        """Return when the application has ended; what goes wrong is logged.

        Cancelled, it cancels the application.
        """
        task = self._task
        if task is None or task.done():
            return
        try:
            answer = await self._ask("shutdown")
            if answer is not None and answer["type"] == "lifespan.shutdown.failed":
                reason = answer.get("message") or "it gave no reason"
                logger.error("the application failed to end: %s", reason)
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            logger.error("the application has not ended in time and is cancelled")
            task.cancel()
            raise
        if not task.cancelled() and task.exception() is not None:
            logger.error("the application failed in its lifespan", exc_info=task.exception())

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": ASGI_VERSION, "spec_version": LIFESPAN_SPEC_VERSION},
            "state": self.state,
        }
        await self._app(scope, self._messages.get, self._send)

    async def _ask(self, what: str) -> Message | None:
        """Tell the application and wait for its answer; None: it has ended without one."""
        assert self._task is not None
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"type": f"lifespan.{what}"})
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind not in (
            "lifespan.startup.complete",
            "lifespan.startup.failed",
            "lifespan.shutdown.complete",
            "lifespan.shutdown.failed",
        ):
            raise ValueError(f"a lifespan is sent no {kind!r}")
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
