"""nginx and Caddy with the examples of docs/SERVING.md, and an authority that stands for a public one."""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_connection

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.programs import DEADLINE, ROOT

DAY = datetime.timedelta(days=1)
STREAM_MODULE = Path("nginx/modules/ngx_stream_module.so")
"""Of Debian's package libnginx-mod-stream, below a folder for libraries."""


def example(beginning: str) -> str:
    """The example of the docs that begins so, without its indentation."""
    text = (ROOT / "docs" / "SERVING.md").read_text(encoding="utf-8")
    found = re.search(rf"(?:^    {re.escape(beginning)}.*\n(?:^(?:    .*)?\n)*)", text, re.MULTILINE)
    assert found is not None, f"docs/SERVING.md has no example that begins with {beginning!r}"
    return re.sub("^    ", "", found[0], flags=re.MULTILINE)


def write_certificate(folder: Path, host: str) -> Path:
    """An authority (`ca.pem`), and the certificate and key that certbot would have for a host."""
    now = datetime.datetime.now(datetime.timezone.utc)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of this test")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])

    def signed(name: x509.Name, public: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            issuer, name, public, x509.random_serial_number(), now - DAY, now + DAY
        )
        builder = builder.add_extension(
            x509.BasicConstraints(ca=is_authority, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(authority_key, hashes.SHA256())

    pem = serialization.Encoding.PEM
    authority = signed(issuer, authority_key.public_key(), is_authority=True)
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    leaf = signed(subject, key.public_key(), is_authority=False)
    (folder / "fullchain.pem").write_bytes(leaf.public_bytes(pem) + authority.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "privkey.pem").write_bytes(private)
    return folder / "ca.pem"


def nginx_modules() -> Path | None:
    """The stream module of the nginx in PATH; None where there is none."""
    nginx = shutil.which("nginx")
    if nginx is None:
        return None
    libraries = (Path(nginx).resolve().parents[1] / "lib", Path("/usr/lib"))
    return next((path / STREAM_MODULE for path in libraries if (path / STREAM_MODULE).is_file()), None)


@contextmanager
def nginx(folder: Path, http: str, stream: str, port: int) -> Iterator[None]:
    """nginx with examples in its `http` block and next to it, until the test ends. port: one of its ports."""
    config = folder / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"load_module {nginx_modules()};\ndaemon off;\n"
        f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\n{stream}\nhttp {{ access_log off; {temporary}\n{http}\n}}\n",
        encoding="utf-8",
    )
    with running("nginx", "-p", str(folder), "-c", str(config), port=port):
        yield


@contextmanager
def running(*command: str, port: int) -> Iterator[None]:
    """A server, once it listens at a port of loopback."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + DEADLINE
        while not _listens(port):
            assert process.poll() is None, command
            assert time.monotonic() < until, f"{command[0]} does not listen"
        yield
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


def _listens(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
