"""``cert``: certificates for development, and what browsers will say to any."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pywebtransport._certificates import (
    date_problems,
    hash_problems,
    key_kind,
    load_certificates,
)
from pywebtransport._development import HOSTNAME, state_directory
from pywebtransport.cli.development import page_option
from pywebtransport.cli.output import fail, json_option, print_json
from pywebtransport.constants import MAX_BROWSER_CERTIFICATE_DAYS
from pywebtransport.utils import generate_self_signed_cert

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["command"]


@click.group(name="cert")
def command() -> None:
    """Make a certificate, or show one and what browsers will say to it.

    \b
    Examples:
      pywebtransport cert make
      pywebtransport cert make example.org --days 7 --directory certificates
      pywebtransport cert show localhost.crt
      pywebtransport cert show --json
    """


@command.command(short_help="Make one that browsers accept by its hash.")
@click.argument("hostname", default=HOSTNAME)
@click.option(
    "--days",
    type=click.IntRange(1, MAX_BROWSER_CERTIFICATE_DAYS),
    default=MAX_BROWSER_CERTIFICATE_DAYS,
    show_default=True,
    help="How long it is valid; browsers accept no more.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False),
    default=".",
    show_default=True,
    help="Where HOSTNAME.crt and HOSTNAME.key are written.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@json_option
def make(hostname: str, days: int, directory: str, force: bool, as_json: bool) -> None:
    """Make a certificate of HOSTNAME, or of localhost, that browsers accept by its hash.

    It is self-signed, with an ECDSA key on P-256. That of localhost is good for 127.0.0.1 and ::1,
    too. Only the owner can read the key.

    \b
    Examples:
      pywebtransport cert make
      pywebtransport cert make example.org --days 7 --directory certificates
    """
    there = [
        str(path)
        for suffix in ("crt", "key")
        if (path := Path(directory, f"{hostname}.{suffix}")).exists()
    ]
    if there and not force:
        verb = "are" if len(there) > 1 else "is"
        fail(f"{' and '.join(there)} {verb} there already; --force replaces them")
    try:
        certfile, keyfile = generate_self_signed_cert(
            hostname=hostname, output_dir=directory, days_valid=days, browser_compatible=True
        )
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    facts = facts_of(certfile) | {"keyfile": keyfile}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


@command.command(short_help="Show one, and whether browsers accept it by its hash.")
@click.argument("file", type=click.Path(), required=False)
@json_option
def show(file: str | None, as_json: bool) -> None:
    """Show the certificate in FILE, a PEM file, and whether browsers accept it by its hash.

    Without FILE: the one of `pywebtransport serve --dev`.

    \b
    Examples:
      pywebtransport cert show localhost.crt
      pywebtransport cert show --json
    """
    if file is None:
        kept = state_directory() / f"{HOSTNAME}.crt"
        if not kept.exists():
            fail("there is no development certificate yet: name a file, or try serve --dev")
        file = str(kept)
    facts = facts_of(file)
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)


def facts_of(certfile: str) -> dict[str, Any]:
    """What there is to know of the first certificate of a file, as JSON takes it."""
    from cryptography.hazmat.primitives.hashes import SHA256

    certificate = load_certificates(certfile)[0]
    digest = certificate.fingerprint(SHA256())
    refused = [f"it {problem}" for problem in date_problems(certificate)]
    refused += hash_problems(certificate)
    return {
        "certfile": certfile,
        "names": names_of(certificate),
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "self_signed": certificate.issuer == certificate.subject,
        "key": key_kind(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": digest.hex(),
        "sha256_base64": base64.b64encode(digest).decode(),
        "accepted_by_hash": not refused,
        "refused_because": refused,
    }


def names_of(certificate: x509.Certificate) -> list[str]:
    """Host names and addresses that it is good for."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    kinds = (x509.DNSName, x509.IPAddress)
    return [str(name.value) for name in names if isinstance(name, kinds)]


def print_facts(facts: dict[str, Any]) -> None:
    rows = {"certificate": facts["certfile"]}
    if "keyfile" in facts:
        rows["key file"] = facts["keyfile"]
    rows |= {
        "names": ", ".join(facts["names"]) or "none, which clients take for no host",
        "issuer": "itself" if facts["self_signed"] else facts["issuer"],
        "key": facts["key"],
        "valid": f"{facts['not_before'][:16]} to {facts['not_after'][:16]}".replace("T", " ")
        + " UTC",
        "SHA-256": facts["sha256_base64"],
        "": facts["sha256"],
    }
    for name, value in rows.items():
        click.echo(f"{name:<12} {value}")
    if facts["accepted_by_hash"]:
        answer = click.style("yes", fg="green")
    else:
        answer = f"{click.style('no', fg='red')}, {' and '.join(facts['refused_because'])}"
    click.echo(f"{'by its hash':<12} {answer}")
    if facts["accepted_by_hash"]:
        click.echo(f"\nIn a page: {page_option(bytes.fromhex(facts['sha256']))}")
