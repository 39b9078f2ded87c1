"""`connect()` names the cause and the remedy, in one class for all and one for each kind."""

from __future__ import annotations

import builtins
import socket
import ssl
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport import exceptions as errors
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import certificate_hash, generate_self_signed_cert
from tests.support.certificate import Authority, Certificate, make_certificate
from tests.support.laboratory import free_port

from .place import Place


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


async def failure(place: Place, kind: type[BaseException], **options: object) -> errors.ClientError:
    """What connecting raises: a ClientError that is a `kind` as well."""
    given = {"ca_certs": None, "connect_timeout": 5} | options
    async with place.client(**given) as client:
        with pytest.raises(kind) as caught:
            session = await client.connect(url=place.url())
            await session.create_bidirectional_stream()
    assert isinstance(caught.value, errors.ClientError)
    return caught.value


async def test_certificates(engine: str, certificate: Certificate, tmp_path: Path) -> None:
    other = make_certificate(tmp_path)
    async with Place(engine, certificate) as place:
        error = await failure(place, errors.CertificateError)
        assert isinstance(error, errors.ConnectionError)
        assert "self-signed" in str(error)
        for remedy in ("ca_certs=", "server_certificate_hashes="):
            assert remedy in str(error)
        error = await failure(place, errors.CertificateError, ca_certs=other.certfile)
        for fact in (other.certfile, certificate.sha256, other.sha256):
            assert fact in str(error)
        error = await failure(
            place, errors.CertificateError, server_certificate_hashes=[other.sha256]
        )
        for fact in (certificate.sha256, other.sha256):
            assert fact in str(error)


async def test_pinned_certificate_with_the_wrong_key(engine: str, tmp_path: Path) -> None:
    pair = generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path))
    digest = certificate_hash(path=pair[0])
    rsa = Certificate(pair[0], pair[1], digest)
    async with Place(engine, rsa) as place:
        error = await failure(place, errors.CertificateError, server_certificate_hashes=[digest])
        assert "RSA" in str(error)
        assert "browser_compatible=True" in str(error)


async def test_unknown_issuer(engine: str, tmp_path: Path) -> None:
    """Not self-signed: an authority that nobody has told of."""
    issued = Authority(tmp_path).issue("somebody")
    async with Place(engine, issued) as place:
        error = await failure(place, errors.CertificateError)
        assert "issuer" in str(error)
        assert "ca_certs=" in str(error)


async def test_refused_client_certificate_is_a_certificate_error(
    certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    authority = Authority(tmp_path / "good")
    bad = Authority(tmp_path / "bad").issue("bad")
    options = {"verify_mode": ssl.CERT_REQUIRED, "ca_certs": authority.certfile}
    async with Place("native", certificate, **options) as place:
        for client in ({}, {"certfile": bad.certfile, "keyfile": bad.keyfile}):
            error = await failure(
                place, errors.CertificateError, ca_certs=certificate.certfile, **client
            )
            assert "certfile=" in str(error)


async def test_silence_speaks_of_udp(engine: str, certificate: Certificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        place = Place(engine, certificate)
        place.port = silent.getsockname()[1]
        error = await failure(place, builtins.TimeoutError, connect_timeout=0.3)
        assert isinstance(error, errors.TimeoutError)
        assert isinstance(error, errors.ConnectionError)
        assert isinstance(error, builtins.ConnectionError)
        assert "UDP" in str(error)
        assert "0.3 s" in str(error)


async def test_nobody_there(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    place.port = free_port()
    error = await failure(place, errors.ConnectionError)
    assert str(place.port) in str(error)


@pytest.mark.parametrize("url", ["http://localhost/", "https://", "https://localhost:1/ x"])
async def test_wrong_url(engine: str, url: str) -> None:
    async with WebTransportClient(config=ClientConfig(engine=engine)) as client:
        with pytest.raises(errors.ClientError) as caught:
            await client.connect(url=url)
        assert isinstance(caught.value, errors.ConfigurationError)


async def test_status_and_fields_of_a_refusal(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:

        @place.app.middleware
        async def limit(*, session: WebTransportSession) -> bool:
            raise errors.MiddlewareRejected(status_code=429, headers={"retry-after": "7"})

        error = await failure(place, errors.ClientError, ca_certs=certificate.certfile)
        assert error.status_code == 429
        assert error.headers["retry-after"] == "7"
        assert not isinstance(error, errors.ConnectionError)


async def test_what_travels_of_a_url(engine: str, certificate: Certificate) -> None:
    """No fragment, and nothing but ASCII; what is percent-encoded stays as it is."""
    paths: list[str] = []
    async with Place(engine, certificate) as place:

        @place.app.middleware
        async def note(*, session: WebTransportSession) -> bool:
            paths.append(session.path)
            return True

        place.app.pattern_route(pattern=".*")(until_closed)
        for path in ("/a%20b#fragment", "/grün?x=ä&y=%C3%A4"):
            await place.connect(path)
        assert paths == ["/a%20b", "/gr%C3%BCn?x=%C3%A4&y=%C3%A4"]
    from pywebtransport.client.utils import parse_webtransport_url

    assert parse_webtransport_url(url="https://exämple.test/")[0] == "xn--exmple-cua.test"


@pytest.mark.parametrize("percent", ["%25", "%"])
async def test_the_zone_of_an_address_is_not_sent(
    engine: str, certificate: Certificate, percent: str
) -> None:
    """RFC 6874 escapes its percent sign in a URL; nobody else knows a zone of this machine."""
    authorities: list[str] = []
    async with Place(engine, certificate, bind_host="::1") as place:

        @place.app.middleware
        async def note(*, session: WebTransportSession) -> bool:
            authorities.append(session.headers[":authority"])
            return True

        place.app.route(path="/")(until_closed)
        async with place.client(verify_mode=ssl.CERT_NONE, ca_certs=None) as client:
            zone = socket.if_nametoindex("lo")
            await client.connect(url=f"https://[::1{percent}{zone}]:{place.port}/")
    assert authorities == [f"[::1]:{place.port}"]
