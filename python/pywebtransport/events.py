"""Events, and the class from which everything that has events inherits.

Connections, sessions and streams are emitters, most of which nobody ever listens to. So an
emitter costs nothing to make: its containers are class attributes holding None until the first
listener or event, and an event that nobody listens to is recorded without becoming an object.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from pywebtransport._identifiers import random_uuid
from pywebtransport.constants import (
    DEFAULT_MAX_EVENT_HISTORY,
    DEFAULT_MAX_EVENT_LISTENERS,
    DEFAULT_MAX_QUEUED_EVENTS,
)
from pywebtransport.types import EventData, EventType, Timeout

__all__ = ["Event", "EventEmitter", "EventHandler"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, repr=False)
class Event:
    """Something that happened: what, when, to whom, and what there is to know about it."""

    type: EventType | str
    timestamp: float = field(default_factory=time.time)
    data: EventData | None = None
    source: Any | None = None
    event_id: str = field(default_factory=random_uuid)

    def __post_init__(self) -> None:
        if not isinstance(self.type, EventType):
            try:
                self.type = EventType(self.type)
            except ValueError:
                logger.warning("event type %r is not one of the library's", self.type)

    @classmethod
    def for_connection(cls, *, event_type: EventType, connection_info: dict[str, Any]) -> Self:
        """An event of a connection."""
        return cls(type=event_type, data=connection_info)

    @classmethod
    def for_datagram(cls, *, event_type: EventType, datagram_info: dict[str, Any]) -> Self:
        """An event of a datagram."""
        return cls(type=event_type, data=datagram_info)

    @classmethod
    def for_error(cls, *, error: Exception, source: Any = None) -> Self:
        """A PROTOCOL_ERROR that describes ``error``."""
        to_dict = getattr(error, "to_dict", dict)
        data: dict[str, Any] = {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "error_details": to_dict(),
        }
        return cls(type=EventType.PROTOCOL_ERROR, data=data, source=source)

    @classmethod
    def for_session(cls, *, event_type: EventType, session_info: dict[str, Any]) -> Self:
        """An event of a session."""
        return cls(type=event_type, data=session_info)

    @classmethod
    def for_stream(cls, *, event_type: EventType, stream_info: dict[str, Any]) -> Self:
        """An event of a stream."""
        return cls(type=event_type, data=stream_info)

    @property
    def is_connection_event(self) -> bool:
        """Whether it is about a connection."""
        return self.type.startswith("connection_")

    @property
    def is_datagram_event(self) -> bool:
        """Whether it is about a datagram."""
        return self.type.startswith("datagram_")

    @property
    def is_error_event(self) -> bool:
        """Whether it reports an error."""
        return "error" in self.type

    @property
    def is_session_event(self) -> bool:
        """Whether it is about a session."""
        return self.type.startswith("session_")

    @property
    def is_stream_event(self) -> bool:
        """Whether it is about a stream."""
        return self.type.startswith("stream_")

    def to_dict(self) -> dict[str, Any]:
        """Id, type, time, data, and the source's text."""
        return {
            "id": self.event_id,
            "type": str(self.type),
            "timestamp": self.timestamp,
            "data": self.data,
            "source": None if self.source is None else str(self.source),
        }

    def __repr__(self) -> str:
        return f"Event(type={self.type}, id={self.event_id}, timestamp={self.timestamp})"


EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]

_Unseen: TypeAlias = tuple[EventType | str, float, EventData | None, Any]
"""An event that became no object: type, timestamp, data, source."""


class EventEmitter:
    """Calls the handlers that are registered for an event, and remembers recent events.

    For one event the persistent handlers run first, then those registered for one time, then
    those for every event; asynchronous ones are awaited one after another. What a handler raises
    is logged and goes no further.
    """

    _any_handlers: list[EventHandler] | None = None
    _background: set[asyncio.Task[None]] | None = None
    _drain_task: asyncio.Task[None] | None = None
    _handlers: dict[str, list[EventHandler]] | None = None
    _history: list[Event | _Unseen] | None = None
    _is_emitter: bool = False
    _is_paused: bool = False
    _max_history: int = DEFAULT_MAX_EVENT_HISTORY
    _max_listeners: int = DEFAULT_MAX_EVENT_LISTENERS
    _max_queued: int = DEFAULT_MAX_QUEUED_EVENTS
    _once_handlers: dict[str, list[EventHandler]] | None = None
    _queue: deque[Event] | None = None
    _watchers: list[tuple[EventType, Callable[[], object]]] | None = None

    def __init__(
        self,
        *,
        max_listeners: int = DEFAULT_MAX_EVENT_LISTENERS,
        max_history: int = DEFAULT_MAX_EVENT_HISTORY,
        max_queue_size: int = DEFAULT_MAX_QUEUED_EVENTS,
    ) -> None:
        """With several bases that are emitters only the first call counts.

        max_listeners: above so many for one type a warning is logged.
        max_history: recent events that are remembered.
        max_queue_size: events held back while paused; then the oldest are dropped.
        """
        if self._is_emitter:
            return
        self._is_emitter = True
        if max_listeners != self._max_listeners:
            self._max_listeners = max_listeners
        if max_history != self._max_history:
            self._max_history = max_history
        if max_queue_size != self._max_queued:
            self._max_queued = max_queue_size

    async def close(self) -> None:
        """Stop delivering held back events and forget every listener."""
        task, self._drain_task = self._drain_task, None
        self.remove_all_listeners()
        self._queue = None
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    # listeners

    def on(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """Call ``handler`` at every event of this type, until it is taken off."""
        if self._handlers is None:
            self._handlers = {}
        self._add(self._handlers.setdefault(event_type, []), handler, event_type)

    def once(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """Call ``handler`` at the next event of this type; it is taken off before."""
        if self._once_handlers is None:
            self._once_handlers = {}
        self._add(self._once_handlers.setdefault(event_type, []), handler, event_type)

    def on_any(self, *, handler: EventHandler) -> None:
        """Call ``handler`` at every event, after the handlers of its type."""
        if self._any_handlers is None:
            self._any_handlers = []
        self._add(self._any_handlers, handler, "*")

    def off(self, *, event_type: EventType | str, handler: EventHandler | None = None) -> None:
        """Take off one handler of this type, or all of them."""
        for registry in (self._handlers, self._once_handlers):
            handlers = None if registry is None else registry.get(event_type)
            if registry is None or handlers is None:
                continue
            if handler in handlers:
                handlers.remove(handler)
            if handler is None or not handlers:
                del registry[event_type]

    def off_any(self, *, handler: EventHandler | None = None) -> None:
        """Take off one handler for every event, or all of them."""
        if handler is None:
            self._any_handlers = None
        elif self._any_handlers is not None and handler in self._any_handlers:
            self._any_handlers.remove(handler)

    def remove_all_listeners(self, *, event_type: EventType | str | None = None) -> None:
        """Take off the handlers of one type, or every handler there is."""
        if event_type is not None:
            self.off(event_type=event_type)
        else:
            self._handlers = self._once_handlers = self._any_handlers = None

    def listeners(self, *, event_type: EventType | str) -> list[EventHandler]:
        """The handlers of this type: persistent ones, then those for one time."""
        registries = (self._handlers or {}, self._once_handlers or {})
        return [handler for registry in registries for handler in registry.get(event_type, ())]

    def listener_count(self, *, event_type: EventType | str) -> int:
        """How many handlers this type has."""
        return len(self.listeners(event_type=event_type))

    def set_max_listeners(self, *, max_listeners: int) -> None:
        """Change above how many listeners for one type a warning is logged."""
        self._max_listeners = max_listeners

    # events

    async def emit(
        self,
        *,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """Record an event and run its handlers; return when all have run.

        While paused the event is held back until :meth:`resume`.
        """
        event = self._next_event(event_type, data, source)
        if event is not None:
            await self._run_handlers(event)

    def emit_nowait(
        self,
        *,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """As :meth:`emit`, with the handlers run in a task of their own."""
        event = self._next_event(event_type, data, source)
        if event is not None:
            task = asyncio.get_running_loop().create_task(self._run_handlers(event))
            if self._background is None:
                self._background = set()
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def wait_for(
        self,
        *,
        event_type: EventType | str,
        timeout: Timeout | None = None,
        condition: Callable[[Event], bool] | None = None,
    ) -> Event:
        """The next event of this type for which ``condition`` holds.

        What ``condition`` raises ends the wait. ``asyncio.TimeoutError``, the built-in class, is
        raised after ``timeout`` seconds.
        """
        found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def look(event: Event) -> None:
            if found.done():
                return
            try:
                if condition is None or condition(event):
                    found.set_result(event)
            except Exception as error:
                found.set_exception(error)

        self.on(event_type=event_type, handler=look)
        try:
            return await asyncio.wait_for(found, timeout)
        finally:
            self.off(event_type=event_type, handler=look)

    def pause(self) -> None:
        """Hold events back until :meth:`resume`."""
        self._is_paused = True

    def resume(self) -> asyncio.Task[None] | None:
        """Deliver again; the task that delivers what was held back, if it had to be started."""
        self._is_paused = False
        is_draining = self._drain_task is not None and not self._drain_task.done()
        if not self._queue or is_draining:
            return None
        self._drain_task = asyncio.get_running_loop().create_task(self._drain())
        return self._drain_task

    # what happened

    def get_event_history(
        self, *, event_type: EventType | str | None = None, limit: int = 100
    ) -> list[Event]:
        """The last events, of one type or all, newest last."""
        history = self._history
        if not history or limit <= 0:
            return []
        events: deque[Event] = deque(maxlen=limit)
        for index, entry in enumerate(history):
            if isinstance(entry, tuple):
                kind, timestamp, data, source = entry
                entry = Event(type=kind, timestamp=timestamp, data=data, source=source)
                history[index] = entry
            if event_type is None or entry.type == event_type:
                events.append(entry)
        return list(events)

    def clear_history(self) -> None:
        """Forget the recorded events."""
        self._history = None

    def get_stats(self) -> dict[str, Any]:
        """Counts of handlers, of recorded and of held back events."""
        handlers, once = self._handlers or {}, self._once_handlers or {}
        return {
            "total_handlers": sum(map(len, handlers.values())),
            "total_once_handlers": sum(map(len, once.values())),
            "wildcard_handlers": len(self._any_handlers or ()),
            "event_types": len(handlers.keys() | once.keys()),
            "history_size": len(self._history or ()),
            "queued_events": len(self._queue or ()),
            "paused": self._is_paused,
        }

    # private

    def _note(self, event_type: EventType, data: EventData) -> None:
        """As :meth:`emit_nowait` with itself as the source; cheaper when nobody listens."""
        if self._is_paused or self._has_listeners(event_type):
            self.emit_nowait(event_type=event_type, data=data, source=self)
            return
        if self._watchers:
            self._tell_watchers(event_type)
        self._record((event_type, time.time(), data, self))

    def _record(self, entry: Event | _Unseen) -> None:
        if self._history is None:
            self._history = []
        self._history.append(entry)
        if len(self._history) > self._max_history:
            del self._history[0]

    def _watch(self, event_type: EventType, watcher: Callable[[], object]) -> None:
        """Call ``watcher`` at once at every event of this type, paused or not.

        For the library's own registers: no task, no event object, not one of the listeners.
        """
        if self._watchers is None:
            self._watchers = []
        self._watchers.append((event_type, watcher))

    def _unwatch(self, event_type: EventType, watcher: Callable[[], object]) -> None:
        if self._watchers is not None:
            self._watchers.remove((event_type, watcher))

    def _tell_watchers(self, event_type: EventType | str) -> None:
        # A watcher may take itself off.
        for watched, watcher in self._watchers[:] if self._watchers else ():
            if watched is event_type:
                watcher()

    def _add(self, handlers: list[EventHandler], handler: EventHandler, kind: str) -> None:
        if handler in handlers:
            logger.warning("handler %r is already registered for %s", handler, kind)
            return
        if len(handlers) >= self._max_listeners:
            logger.warning(
                "%s has more than %d listeners for %s; is one of them never taken off?",
                type(self).__name__,
                self._max_listeners,
                kind,
            )
        handlers.append(handler)

    def _next_event(
        self, event_type: EventType | str, data: EventData | None, source: Any
    ) -> Event | None:
        """Record an event; give it back when there is something to run for it now."""
        if self._watchers is not None:
            self._tell_watchers(event_type)
        is_unseen = not self._is_paused and not self._has_listeners(event_type)
        if is_unseen:
            entry: Event | _Unseen = (event_type, time.time(), data, source)
        else:
            entry = event = Event(type=event_type, data=data, source=source)
        self._record(entry)
        if is_unseen:
            return None
        if not self._is_paused:
            return event
        if self._queue is None:
            self._queue = deque(maxlen=self._max_queued)
        if len(self._queue) == self._max_queued:
            logger.warning(
                "%s is paused with %d events held back; the oldest is dropped",
                type(self).__name__,
                self._max_queued,
            )
        self._queue.append(event)
        return None

    def _has_listeners(self, event_type: EventType | str) -> bool:
        handlers, once = self._handlers, self._once_handlers
        return bool(
            (handlers is not None and event_type in handlers)
            or (once is not None and event_type in once)
            or self._any_handlers
        )

    async def _run_handlers(self, event: Event) -> None:
        if self._handlers is not None:
            for handler in tuple(self._handlers.get(event.type, ())):
                await self._run(handler, event)
        if self._once_handlers is not None:
            for handler in self._once_handlers.pop(event.type, ()):
                await self._run(handler, event)
        if self._any_handlers is not None:
            for handler in tuple(self._any_handlers):
                await self._run(handler, event)

    async def _run(self, handler: EventHandler, event: Event) -> None:
        try:
            result = handler(event)
            if result is not None and inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("handler %r failed at %s", handler, event.type)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not whoever emits was cancelled, but something that the handler waited for.
            logger.exception("handler %r failed at %s", handler, event.type)

    async def _drain(self) -> None:
        while self._queue and not self._is_paused:
            await self._run_handlers(self._queue.popleft())
