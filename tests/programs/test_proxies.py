"""A coordinator behind nginx, with the examples of docs/SERVING.md and certificates of an own authority."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path

import pytest

from tests.programs.test_processes import prepare
from tests.support.programs import INVITE, free_ports, stage
from tests.support.proxies import example, nginx, nginx_modules, write_certificate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("a run behind a proxy takes a minute"),
    pytest.mark.skipif(nginx_modules() is None, reason="needs nginx with its stream module"),
    pytest.mark.timeout(600),
]


def test_volunteers_join_and_download_through_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path)
    run_file = tmp_path / "run.toml"
    run_file.write_text(run_file.read_text().replace('name = "tiny"', 'name = "barn"'), encoding="utf-8")
    certificates = tmp_path / "letsencrypt"
    certificates.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(write_certificate(certificates, "localhost")))
    port, http_port, passed, ended, terminated = free_ports(5)
    stream = example("stream {").replace("127.0.0.1:7451", f"127.0.0.1:{port}")
    https = example("limit_conn_zone").replace("127.0.0.1:7453", f"127.0.0.1:{http_port}")
    https = https.replace("/etc/letsencrypt/live/models.example.org", str(certificates))
    https = https.replace("models.example.org", "localhost").replace("listen 443 ssl", f"listen {ended} ssl")
    ends_tls = f"""server {{
        listen {terminated} ssl http2;
        ssl_certificate {certificates}/fullchain.pem;
        ssl_certificate_key {certificates}/privkey.pem;
        location / {{ grpc_pass grpcs://127.0.0.1:{port}; }}
    }}"""
    with (
        stage(tmp_path) as run,
        nginx(tmp_path, https + ends_tls, stream.replace("listen 443", f"listen {passed}"), passed),
    ):
        url = f"https://localhost:{ended}"
        coordinator = run.launch(
            port, 0, more=(
                "--http-port", str(http_port), "--http-url", url,
                "--public-host", "localhost", "--public-port", str(passed),
            ),
        )  # fmt: skip
        invite = coordinator.wait_for(INVITE)[1]
        assert f"localhost:{passed}/barn" in invite
        ada = run.join("ada", invite)
        coordinator.wait_for(r"folded: 1 contribution")
        coordinator.wait_for(r"checkpoint of round \d+ written")
        for place in (f"localhost:{passed}", invite):
            status = run.start("status", "coordinator.cli.main", "status", place)
            assert status.wait() == 0, status.output
            assert "ada" in status.output

        for source, key in ((invite, ()), (url, ("--key", invite))):
            folder = tmp_path / f"download-{len(key)}"
            download = run.start(
                "download", "peer.cli.main", "download", source, *key, "-o", str(folder),
                "--base", str(tmp_path / "model"), "--cache-dir", str(tmp_path / "cache"),
            )  # fmt: skip
            assert download.wait() == 0, download.output
            assert "every file matches what the run's key signed" in download.output
        hub = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with urllib.request.urlopen(
            f"{url}/api/models/barnraise/barn", context=hub
        ) as answer:  # as Hub clients ask
            assert json.load(answer)["id"]

        outside = invite.replace(f":{passed}/", f":{terminated}/")
        ben = run.join("ben", outside)
        ben.wait_for(r"a certificate that is not of the run's key", 60)
        ben.kill()
        for program in (coordinator, ada, ben):
            assert "Traceback" not in program.output
