"""Certificates, time, text and logging helpers."""

from __future__ import annotations

import hashlib
import io
import logging
import ssl
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pywebtransport import utils
from pywebtransport.exceptions import CertificateError, ConfigurationError
from pywebtransport.utils import (
    Timer,
    certificate_hash,
    create_quic_configuration,
    ensure_bytes,
    format_duration,
    generate_self_signed_cert,
    generate_session_id,
    get_logger,
    get_timestamp,
    init_tracing,
    inspect_certificate,
)


def load(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


# certificates


def test_default_certificate_is_rsa_for_a_year(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "directory"
    pair = generate_self_signed_cert(hostname="example.org", output_dir=str(directory))
    assert pair == (str(directory / "example.org.crt"), str(directory / "example.org.key"))
    certificate = load(pair[0])
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert end - start == timedelta(days=365)
    assert timedelta(0) <= datetime.now(UTC) - start < timedelta(minutes=1)
    assert names(certificate).get_values_for_type(x509.DNSName) == ["example.org"]
    assert "BEGIN PRIVATE KEY" in Path(pair[1]).read_text()
    assert stat.S_IMODE(Path(pair[1]).stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)


@pytest.mark.parametrize(("days", "valid"), [(365, 14), (14, 14), (3, 3)])
def test_browser_compatible_certificate(tmp_path: Path, days: int, valid: int) -> None:
    certfile, _ = generate_self_signed_cert(
        hostname="localhost", output_dir=str(tmp_path), days_valid=days, browser_compatible=True
    )
    certificate = load(certfile)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert end - start == timedelta(days=valid)
    assert inspect_certificate(path=certfile) == []


def test_localhost_and_addresses(tmp_path: Path) -> None:
    certfile, _ = generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path))
    assert names(load(certfile)).get_values_for_type(x509.IPAddress) == [
        ip_address("127.0.0.1"),
        ip_address("::1"),
    ]
    certfile, _ = generate_self_signed_cert(hostname="192.0.2.1", output_dir=str(tmp_path))
    assert names(load(certfile)).get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1")]
    assert names(load(certfile)).get_values_for_type(x509.DNSName) == []


def test_long_host_name(tmp_path: Path) -> None:
    hostname = ".".join(["a" * 60] * 3)
    certfile, _ = generate_self_signed_cert(hostname=hostname, output_dir=str(tmp_path))
    assert names(load(certfile)).get_values_for_type(x509.DNSName) == [hostname]


@pytest.mark.parametrize(
    "values", [{"hostname": ""}, {"hostname": "../x"}, {"hostname": "h", "days_valid": 0}]
)
def test_bad_certificate_arguments(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        generate_self_signed_cert(output_dir=str(tmp_path), **values)
    assert caught.value.config_key in values
    assert list(tmp_path.iterdir()) == []


def test_certificate_hash_is_that_of_the_der_form(tmp_path: Path) -> None:
    certfile, _ = generate_self_signed_cert(hostname="h", output_dir=str(tmp_path))
    der = ssl.PEM_cert_to_DER_cert(Path(certfile).read_text())
    assert certificate_hash(path=certfile) == hashlib.sha256(der).hexdigest()


def test_rsa_and_long_validity_are_reported(tmp_path: Path) -> None:
    certfile, _ = generate_self_signed_cert(hostname="h", output_dir=str(tmp_path))
    key, validity = inspect_certificate(path=certfile)
    assert "its key is RSA" in key
    assert "365 days" in validity
    assert all(certfile in problem for problem in (key, validity))
    assert all("browser_compatible=True" in problem for problem in (key, validity))


@pytest.mark.parametrize(
    ("start", "end", "text"), [(-20, -10, "expired"), (10, 20, "is not valid before")]
)
def test_validity_in_the_past_and_future(tmp_path: Path, start: int, end: int, text: str) -> None:
    path = write_certificate(tmp_path, issuer="h", start=start, end=end)
    (problem,) = inspect_certificate(path=path)
    assert text in problem


def test_certificate_of_an_authority_may_be_valid_for_long(tmp_path: Path) -> None:
    path = write_certificate(tmp_path, issuer="authority", start=-1, end=90)
    assert inspect_certificate(path=path) == []


def write_certificate(directory: Path, *, issuer: str, start: int, end: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "h")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=start))
        .not_valid_after(now + timedelta(days=end))
        .sign(key, hashes.SHA256())
    )
    path = directory / "made.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return str(path)


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    missing, junk = tmp_path / "missing.crt", tmp_path / "junk.crt"
    junk.write_text("junk")
    with pytest.raises(CertificateError) as caught:
        certificate_hash(path=str(missing))
    assert caught.value.certificate_error == "file_not_found"
    for path, text in ((junk, "no usable certificate"), (tmp_path, "cannot be read")):
        with pytest.raises(CertificateError, match=text) as caught:
            inspect_certificate(path=str(path))
        assert caught.value.certificate_path == str(path)


# QUIC


@pytest.mark.parametrize("is_client", [True, False])
def test_quic_configuration(is_client: bool) -> None:
    configuration = create_quic_configuration(
        is_client=is_client,
        alpn_protocols=["h3"],
        congestion_control_algorithm="cubic",
        max_datagram_size=1350,
    )
    assert configuration.is_client is is_client
    assert configuration.alpn_protocols == ["h3"]
    assert configuration.congestion_control_algorithm == "cubic"
    assert configuration.max_datagram_frame_size == 1350
    if is_client:
        QuicConnection(configuration=configuration)


# bytes, text, time


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"])
def test_ensure_bytes(data: Any) -> None:
    assert ensure_bytes(data=data) == b"ab"
    assert type(ensure_bytes(data=data)) is bytes


def test_ensure_bytes_with_an_encoding_and_of_other_types() -> None:
    assert ensure_bytes(data="é", encoding="latin-1") == b"\xe9"
    with pytest.raises(TypeError, match="got int"):
        ensure_bytes(data=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0ms"),
        (0.012, "12.0ms"),
        (0.9994, "999.4ms"),
        (1, "1.0s"),
        (5, "5.0s"),
        (59.94, "59.9s"),
        (59.96, "1m0.0s"),
        (65, "1m5.0s"),
        (3599.99, "1h0m0.0s"),
        (3665, "1h1m5.0s"),
        (90061.5, "25h1m1.5s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds=seconds) == text


def test_session_ids_are_long_and_different() -> None:
    made = {generate_session_id() for _ in range(100)}
    assert len(made) == 100
    assert {len(session_id) for session_id in made} == {22}


def test_timestamp_is_now() -> None:
    assert abs(get_timestamp() - datetime.now().timestamp()) < 5


def test_timer(caplog: pytest.LogCaptureFixture) -> None:
    timer = Timer(name="job")
    assert (timer.name, timer.elapsed, timer.start_time, timer.end_time) == ("job", 0.0, None, None)
    with pytest.raises(RuntimeError, match="job"):
        timer.stop()
    with caplog.at_level(logging.DEBUG, logger="pywebtransport"), timer:
        assert timer.end_time is None
        assert timer.elapsed >= 0.0
    assert "job took" in caplog.text
    assert timer.start_time is not None
    assert timer.end_time is not None
    assert timer.elapsed == timer.end_time - timer.start_time
    first = timer.start_time
    timer.start()
    assert timer.start_time > first
    assert timer.end_time is None
    assert Timer().name == "timer"


# logging


@pytest.fixture
def library_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("pywebtransport")
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_logger_has_the_given_name() -> None:
    assert get_logger(name="a.b") is logging.getLogger("a.b")


def test_tracing_writes_to_standard_error_once(
    library_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr("sys.stderr", output)
    init_tracing()
    init_tracing()
    logging.getLogger("pywebtransport.session").debug("a line")
    assert output.getvalue().count("a line") == 1
    assert "pywebtransport.session" in output.getvalue()


def test_everything_public_is_there() -> None:
    assert all(hasattr(utils, name) for name in utils.__all__)
