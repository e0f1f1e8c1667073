"""The certificates of a coordinator's or closer's server, and the key that one of them stands for.

gRPC takes no Ed25519 certificate for a server and lets no program check one. So the server has a P-256 key of
its own, made at each start, and a certificate for it by its Ed25519 key as a certificate authority. A client
builds that authority's certificate from the 32 bytes of the key: all else in it is fixed, and nobody checks
its own signature. gRPC then accepts the server only with a certificate that this key signed.

A client of an old invite knows the run's first key. The server's certificate therefore has the statements by
which each run key named its successor.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter, ValidationError

from barnraise.contract.run_keys import Successors
from barnraise.core.errors import MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import RUN_PATTERN, PublicKey, RunId

MAX_CERTIFICATE_BYTES = 32_768
"""Of a server's certificate: 16 successors take 11 kB."""
_VALID = (datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc))
"""Of all certificates: a volunteer's clock may be off by years, and the run sets it."""
_DOMAIN = ".barnraise.internal"
_NOBODY = Ed25519PrivateKey.from_private_bytes(bytes(32))
"""Signs an authority's certificate where the client builds it."""
_SUCCESSORS = x509.ObjectIdentifier("2.25.330218439014274085431250968414711326523")
"""The extension with the statements: a UUID as an object identifier (ITU-T X.667)."""
_UNREADABLE = (
    ValueError,
    ValidationError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What reading a stranger's certificate may raise."""
_successors: TypeAdapter[Successors] = TypeAdapter(Successors)


@dataclass(frozen=True)
class ServerCertificate:
    """What a TLS server needs; `repr` shows nothing of it."""

    private_key: bytes
    """PEM."""
    certificate: bytes
    """PEM."""

    def __repr__(self) -> str:
        return "ServerCertificate(…)"


@dataclass(frozen=True)
class ShownKey:
    """The key that signed a server's certificate, and what the certificate says of it."""

    key: PublicKey
    run: RunId
    """The run that it is for."""
    successors: Successors
    """Unchecked."""


def server_name(run: RunId) -> str:
    """The name in a server's certificate, which clients send in clear: a proxy can choose by it."""
    return f"{run}{_DOMAIN}"


@functools.lru_cache(maxsize=64)
def authority_certificate(key: PublicKey) -> bytes:
    """The certificate (PEM) of a key as a certificate authority."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    built = (
        _builder(_name(key), _name(key))
        .public_key(public)
        .serial_number(1)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return built.sign(_NOBODY, None).public_bytes(serialization.Encoding.PEM)


def authorities(keys: Sequence[PublicKey]) -> bytes:
    """The certificates of several keys, as gRPC takes them."""
    return b"".join(map(authority_certificate, keys))


def issue(identity: Identity, run: RunId, successors: Successors) -> ServerCertificate:
    """A certificate by `identity` for a new private key. successors: all of the run's first key."""
    private, name = ec.generate_private_key(ec.SECP256R1()), server_name(run)
    statements = x509.UnrecognizedExtension(_SUCCESSORS, _successors.dump_json(successors))
    built = (
        _builder(_name(name), _name(identity.public))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(statements, critical=False)
    )
    certificate = built.sign(Ed25519PrivateKey.from_private_bytes(identity.seed), None)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return ServerCertificate(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), certificate.public_bytes(pem)
    )


def read_shown(certificate: bytes) -> ShownKey:
    """The key that signed a server's certificate (DER). Raises MalformedRecord where none of ours did."""
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise _foreign()
    try:
        found = x509.load_der_x509_certificate(certificate)
        (issuer,) = found.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        authority = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(issuer.value)))
        authority.verify(found.signature, found.tbs_certificate_bytes)
        extension = found.extensions.get_extension_for_oid(_SUCCESSORS).value
        assert isinstance(extension, x509.UnrecognizedExtension)
        successors = _successors.validate_json(extension.value)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names.get_values_for_type(x509.DNSName)
    except _UNREADABLE:
        raise _foreign() from None
    run = RunId(name.removesuffix(_DOMAIN))
    if not re.fullmatch(RUN_PATTERN, run):
        raise _foreign()
    return ShownKey(PublicKey(authority.public_bytes_raw().hex()), run, successors)


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    begin, end = _VALID
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _foreign() -> MalformedRecord:
    return MalformedRecord(
        "the certificate is none of a Barnraise coordinator",
        fix="A proxy in front of a coordinator must not end its TLS: docs/SERVING.md.",
    )
