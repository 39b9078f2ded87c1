"""Keys are their owner's alone, secrets are in no repr, and who showed a certificate is known."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from pywebtransport import ClientConfig, ServerConfig
from pywebtransport.config import ProxyConfig
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.session import WebTransportSession
from pywebtransport.utils import generate_self_signed_cert
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Authority, Certificate

from .place import Place


def der_of(certificate: Certificate) -> bytes:
    read = x509.load_pem_x509_certificate(Path(certificate.certfile).read_bytes())
    return read.public_bytes(Encoding.DER)


@pytest.mark.parametrize("there", ["nothing", "a readable file", "a link", "a link to nothing"])
def test_a_key_is_written_for_its_owner_only(tmp_path: Path, there: str) -> None:
    folder, other = tmp_path / "keys", tmp_path / "other"
    folder.mkdir()
    keyfile = folder / "localhost.key"
    if there == "a readable file":
        keyfile.write_text("old")
        keyfile.chmod(0o644)
    elif there != "nothing":
        if there == "a link":
            other.write_text("mine")
        keyfile.symlink_to(other)
    previous = os.umask(0)
    try:
        made = generate_self_signed_cert(
            hostname="localhost", output_dir=str(folder), browser_compatible=True
        )
    finally:
        os.umask(previous)
    assert made == (str(folder / "localhost.crt"), str(keyfile))
    assert not keyfile.is_symlink()
    assert stat.S_IMODE(keyfile.stat().st_mode) == 0o600
    assert sorted(each.name for each in folder.iterdir()) == ["localhost.crt", "localhost.key"]
    certificate = x509.load_pem_x509_certificate((folder / "localhost.crt").read_bytes())
    key = load_pem_private_key(keyfile.read_bytes(), None)
    assert key.public_key() == certificate.public_key()
    if there == "a link":
        assert other.read_text() == "mine"
    else:
        assert not other.exists()


def test_secrets_are_in_no_repr() -> None:
    config = ClientConfig(
        headers={"authorization": "hunter2"},
        proxy=ProxyConfig(
            url="http://user:hunter2@proxy:3128", headers={"proxy-authorization": "hunter2"}
        ),
    )
    assert config.headers["authorization"] == "hunter2"
    assert "hunter2" not in f"{config!r} {config}"
    assert "proxy:3128" in repr(config)
    with pytest.raises(ConfigurationError) as raised:
        ClientConfig(headers=[("authorization", "hunter2")])  # type: ignore[arg-type]
    assert "hunter2" not in f"{raised.value!r} {raised.value}"


@pytest.mark.parametrize("engine", ["native"], indirect=True)
async def test_a_server_knows_who_showed_a_certificate(
    site: MakeSite, certificate: Certificate, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    shown = authority.issue("client")
    asking = {"verify_mode": ssl.CERT_OPTIONAL, "ca_certs": authority.certfile}
    here = await site(server=asking, client={"certfile": shown.certfile, "keyfile": shown.keyfile})
    pair = await here.pair()
    der = der_of(shown)
    assert pair.server.peer_certificate == pair.server.connection.peer_certificate == der
    await pair.client.close()
    await within(pair.server.wait_closed())
    assert pair.server.peer_certificate == der
    nobody = await (await site(server=asking)).pair()
    assert nobody.server.peer_certificate is None


async def test_a_client_knows_the_server_s_certificate(
    site: MakeSite, certificate: Certificate
) -> None:
    pair = await (await site()).pair()
    assert pair.client.peer_certificate == der_of(certificate)
    assert pair.client.connection.peer_certificate == pair.client.peer_certificate
    assert pair.server.peer_certificate is None


@pytest.mark.parametrize("engine", ["aioquic"], indirect=True)
async def test_an_engine_that_asks_nobody_says_so(
    site: MakeSite, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    await site(server={"verify_mode": ssl.CERT_OPTIONAL, "ca_certs": certificate.certfile})
    assert "asks no client for a certificate" in caplog.text
    caplog.clear()
    await site()
    assert "certificate" not in caplog.text


def test_required_certificates_need_authorities(certificate: Certificate) -> None:
    pair = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    with pytest.raises(ConfigurationError, match="ca_certs"):
        ServerConfig(verify_mode=ssl.CERT_REQUIRED, **pair)
    config = ServerConfig(verify_mode=ssl.CERT_REQUIRED, ca_certs=certificate.certfile, **pair)
    with pytest.raises(ConfigurationError, match="ca_certs"):
        config.update(ca_certs=None)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
async def test_a_key_log_that_others_could_read(
    engine: str, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys"
    log.write_text("# of another program\n")
    log.chmod(0o644)
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def leave(session: WebTransportSession) -> None: ...

        await place.connect()
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert text.startswith("# of another program\n") and "CLIENT_TRAFFIC_SECRET_0" in text
