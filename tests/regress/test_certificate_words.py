"""A certificate or key that a server cannot use is told in one line, alike on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import ServerError
from pywebtransport.utils import generate_self_signed_cert

BEGIN = "-----BEGIN CERTIFICATE-----"
WORDS = {
    ("server.crt", "other.key"): "{}/other.key is not the key of {}/server.crt",
    ("server.key", "server.crt"): "{}/server.key holds no usable certificate: it is a private key; "
    "are certfile and keyfile swapped?",
    ("server.crt", "server.crt"): "{}/server.crt holds no usable private key: it is a certificate; "
    "are certfile and keyfile swapped?",
    ("text", "server.key"): "{}/text holds no usable certificate: "
    f"it has no {BEGIN}, as PEM files have",
    ("server.crt", "text"): "{}/text holds no usable private key: "
    "it has no -----BEGIN PRIVATE KEY-----, as PEM files have",
    ("damaged", "server.key"): "{}/damaged holds no usable certificate: "
    f"what follows {BEGIN} is damaged",
    ("server.crt", "locked"): "{}/locked holds no usable private key: it needs a password; "
    "`openssl pkey -in {}/locked -out plain.key` writes it without",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "other"):
        generate_self_signed_cert(hostname=name, output_dir=str(folder), browser_compatible=True)
    (folder / "text").write_text("hello\n")
    (folder / "damaged").write_text(f"{BEGIN}\nAAAA\n-----END CERTIFICATE-----\n")
    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    (folder / "locked").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return folder


@pytest.mark.parametrize("files", WORDS, ids="-".join)
async def test_words(engine: str, folder: Path, files: tuple[str, str]) -> None:
    certfile, keyfile = (str(folder / name) for name in files)
    config = ServerConfig(engine=engine, certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1")
    async with ServerApp(config=config) as app:
        with pytest.raises(ServerError) as caught:
            await app.server.listen()
    text = WORDS[files].replace("{}", str(folder))
    assert caught.value.message == f"cannot listen on 127.0.0.1:4433: {text}"
