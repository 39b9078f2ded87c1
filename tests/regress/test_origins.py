"""A page of another site is let in only where the configuration says so."""

from __future__ import annotations

import logging

import pytest

from pywebtransport import ServerConfig
from pywebtransport._origins import Origins
from pywebtransport.exceptions import ClientError, ConfigurationError
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within

AUTHORITY = "[authority]"
HERE = f"https://{AUTHORITY}"


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        (None, None, 0),
        (None, HERE, 0),
        (None, f"HTTPS://{AUTHORITY}", 0),
        (None, f"http://{AUTHORITY}", 0),
        (None, "https://127.0.0.1", 403),
        (None, "https://127.0.0.1:1", 403),
        (None, "https://evil.example", 403),
        (None, "null", 403),
        (None, "", 403),
        (["*"], "https://evil.example", 0),
        (["*"], None, 0),
        (["*"], "null", 403),
        (["*", "null"], "null", 0),
        (["*"], "file://", 403),
        (["null"], "file://", 0),
        (["https://good.example"], "HTTPS://Good.Example:443", 0),
        (["https://Good.example:443"], "https://good.example", 0),
        (["https://good.example"], "http://good.example", 403),
        (["https://good.example"], "https://good.example:8443", 403),
        (["https://good.example"], "https://good.example.evil.example", 403),
        (["https://good.example"], HERE, 403),
        (["https://good.example"], None, 0),
        ([], HERE, 403),
    ],
)
async def test_origins(
    site: MakeSite, allowed: list[str] | None, origin: str | None, status: int
) -> None:
    here = await site(server={"allowed_origins": allowed})
    authority = here.url.removeprefix("https://").strip("/")
    headers = {} if origin is None else {"origin": origin.replace(AUTHORITY, authority)}
    if status:
        with pytest.raises(ClientError, match=f"HTTP status {status}"):
            await within(here.client.connect(url=here.url, headers=headers))
    else:
        assert (await within(here.client.connect(url=here.url, headers=headers))).is_ready


async def test_the_access_log_names_a_refused_origin(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    here = await site(server={"access_log": True})
    with (
        caplog.at_level(logging.INFO, "pywebtransport.server"),
        pytest.raises(ClientError, match="HTTP status 403"),
    ):
        await within(here.client.connect(url=here.url, headers={"origin": 'https://a" status=200'}))
    (line,) = (each for each in caplog.messages if each.startswith("session rejected"))
    assert r'status=403 cause="origin https://a\" status=200" session=' in line


@pytest.mark.parametrize(
    ("origin", "authority", "expected"),
    [
        ("https://host", "host", True),
        ("https://host", "host:443", True),
        ("https://host:443", "HOST", True),
        ("http://host", "host", False),
        ("http://host:443", "host", True),
        ("https://[::1]:4433", "[::1]:4433", True),
        ("https://[::1]", "[::1]", True),
        ("https://[::1]", "[::1]:4433", False),
        ("https://user@host", "host", False),
        ("https://host/", "host", False),
        ("https://host:port", "host", False),
        ("https://host", None, False),
    ],
)
def test_the_same_authority(origin: str, authority: str | None, expected: bool) -> None:
    assert Origins(None).allow(origin, authority) is expected


@pytest.mark.parametrize(
    "wrong", ["*", ["example.org"], ["https://"], ["https://a/b"], [5], {"*"}, ["https://a b"]]
)
def test_what_is_no_list_of_origins_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="allowed_origins"):
        ServerConfig(allowed_origins=wrong)  # type: ignore[arg-type]
