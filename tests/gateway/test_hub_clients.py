"""Unmodified clients, each in its own process, against a real gateway: the table in docs/CHECKPOINTS.md."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from barnraise.contract.archive import Revision
from barnraise.core.ids import blob_hash
from barnraise.core.places import Places
from barnraise.gateway import LIMITS, app
from tests.support.archives import BASE, DATA, GGUF, LOSSES, MAIN_ROUND, MERGED, OWN, Laid, lay_out_run
from tests.support.gateways import served
from tests.support.hub_clients import HF, Clients, program

TAG = f"round-{MAIN_ROUND}"


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def clients(laid: Laid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with served(laid.folder) as url:
        yield Clients(url, tmp_path_factory.mktemp("home"))


@pytest.fixture
def fresh(clients: Clients, tmp_path: Path) -> Clients:
    """Clients that have downloaded nothing yet."""
    return Clients(clients.url, tmp_path / "home")


def revision(laid: Laid, repo: str, name: str, kind: str = "model") -> Revision:
    of = next(each for each in laid.index.repos if (each.id, each.kind) == (repo, kind))
    return next(each for each in of.revisions if name in each.names)


def same_files(found: Path, wanted: Path) -> None:
    files = {path.name: path.read_bytes() for path in wanted.iterdir()}
    assert files
    assert {path.name: path.read_bytes() for path in found.iterdir() if path.is_file()} == files


HUB = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download

own, merged = sys.argv[1:]
api, replies = HfApi(), {}
refs = api.list_repo_refs(own)
replies["branches"] = {ref.name: ref.target_commit for ref in refs.branches}
replies["tags"] = {ref.name: ref.target_commit for ref in refs.tags}
replies["tree"] = {each.path: each.lfs.sha256 for each in api.list_repo_tree(own, revision="round-60")}
info = api.model_info(own, files_metadata=True)
replies["info"] = [info.id, info.sha, {each.rfilename: each.lfs.sha256 for each in info.siblings}]
replies["dataset"] = api.dataset_info(own).sha
replies["exist"] = [
    api.repo_exists(own), api.repo_exists("no/body"), api.file_exists(own, "README.md"),
    api.file_exists(own, "nothing"), api.revision_exists(own, "best"), api.revision_exists(own, "round-61"),
]
replies["paths"] = [each.path for each in api.get_paths_info(own, ["README.md", "nothing"])]
replies["listed"] = [each.id for each in api.list_models(author="ada", search="MERGED")]
replies["datasets"] = [each.id for each in api.list_datasets(author="ada")]
replies["parameters"] = api.get_safetensors_metadata(merged).parameter_count
replies["card"] = api.model_info(own).sha and hf_hub_download(own, "README.md", revision="round-60")
replies["snapshot"] = snapshot_download(own, revision="latest")
replies["at a commit"] = snapshot_download(own, revision=replies["tags"]["round-0"])
replies["again"] = snapshot_download(own, revision="latest")
replies["data"] = snapshot_download(own, repo_type="dataset")
replies["errors"] = {}
for what, call in {
    "entry": lambda: hf_hub_download(own, "nothing"),
    "revision": lambda: hf_hub_download(own, "README.md", revision="round-7"),
    "repo": lambda: hf_hub_download("no/body", "README.md"),
    "write": lambda: api.create_branch(own, branch="mine"),
    "whoami": lambda: api.whoami(token="hf_none"),
}.items():
    try:
        call()
    except Exception as error:
        replies["errors"][what] = [type(error).__name__, str(error)]
print(json.dumps(replies))
"""


def test_huggingface_hub(fresh: Clients, laid: Laid) -> None:
    replies = fresh.python(HUB, OWN, MERGED)
    commit = {name: revision(laid, OWN, name).commit for name in ("main", "best", "latest", "round-0", TAG)}
    assert replies["branches"] == {"main": commit["main"]}
    assert replies["tags"].keys() == {"best", "latest", *(f"round-{round}" for round in LOSSES)}
    assert all(replies["tags"][name] == commit[name] for name in ("best", "latest", "round-0", TAG))
    wanted = laid.folder / "checkpoints/round-000060"
    assert replies["tree"] == {path.name: blob_hash(path.read_bytes()) for path in wanted.iterdir()}
    assert replies["info"][:2] == [OWN, commit["main"]]
    assert replies["info"][2].keys() == replies["tree"].keys()
    assert replies["dataset"] == revision(laid, DATA, "main", "dataset").commit
    assert replies["exist"] == [True, False, True, False, True, False]
    assert replies["paths"] == ["README.md"]
    assert replies["listed"] == [MERGED]
    assert replies["datasets"] == [DATA]
    assert replies["parameters"]["BF16"] > 50_000
    assert Path(replies["card"]).read_bytes() == (wanted / "README.md").read_bytes()
    same_files(Path(replies["snapshot"]), laid.folder / "checkpoints/round-000180")
    same_files(Path(replies["at a commit"]), laid.folder / "checkpoints/round-000000")
    same_files(Path(replies["data"]), laid.folder / "data")
    assert replies["again"] == replies["snapshot"]
    names = {what: error[0] for what, error in replies["errors"].items()}
    assert names == {
        "entry": "RemoteEntryNotFoundError", "revision": "RevisionNotFoundError",
        "repo": "RepositoryNotFoundError", "write": "HfHubHTTPError", "whoami": "HfHubHTTPError",
    }  # fmt: skip
    assert "main, latest, best and the rounds 0, 60, 120, 180" in replies["errors"]["revision"][1]
    assert "only reads" in replies["errors"]["write"][1]


def test_hf_download_and_verify(fresh: Clients, laid: Laid, tmp_path: Path) -> None:
    folder = tmp_path / "best"
    fresh.run(HF, "download", OWN, "--revision", "best", "--local-dir", folder)
    shutil.rmtree(folder / ".cache")
    same_files(folder, laid.folder / "checkpoints/round-000060")
    fresh.run(HF, "download", OWN, "README.md", "--revision", TAG)
    fresh.run(HF, "download", DATA, "--repo-type", "dataset")
    fresh.run(HF, "cache", "verify", OWN, "--revision", "best", "--local-dir", folder)
    weights = folder / "adapter_model.safetensors"
    spoilt = bytearray(weights.read_bytes())
    spoilt[-1] ^= 1
    weights.write_bytes(spoilt)
    fresh.run(HF, "cache", "verify", OWN, "--revision", "best", "--local-dir", folder, status=1)


MODELS = """
import json, sys
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, pipeline

own, base, merged, gguf, tag = sys.argv[1:]
ids = torch.arange(3, 40)[None]

def logits(model):
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits[0].float()

def adapter(model):
    return float(sum(p.detach().abs().sum() for n, p in model.named_parameters() if "lora_B" in n))

replies, fp32 = {}, {"dtype": torch.float32}
plain = AutoModelForCausalLM.from_pretrained(base, **fp32)
before = logits(plain)
by_peft = PeftModel.from_pretrained(plain, own, revision=tag)
whole = logits(by_peft)
replies["moved"] = float((whole - before).abs().max())
direct = AutoModelForCausalLM.from_pretrained(own, revision=tag, **fp32)
replies["direct"] = float((logits(direct) - whole).abs().max())
auto = AutoPeftModelForCausalLM.from_pretrained(own, revision="best", **fp32)
replies["best"] = float((logits(auto) - whole).abs().max())
flat = AutoModelForCausalLM.from_pretrained(merged, revision=tag, **fp32)
replies["merged"] = float((logits(flat) - whole).abs().max())
replies["scale"] = float(whole.abs().max())
file = f"barn-{tag}-F16.gguf"
packed = AutoModelForCausalLM.from_pretrained(
    gguf, gguf_file=file, quantization_config=GgufConfig(dequantize=True), **fp32
)
replies["gguf"] = float((logits(packed) - whole).abs().max())
replies["adapter"] = adapter(by_peft)
replies["config"] = AutoConfig.from_pretrained(merged, revision=tag).model_type
tokenizer = AutoTokenizer.from_pretrained(own, revision=tag)
chat = [{"role": "user", "content": "2+2?"}]
replies["chat"] = tokenizer.apply_chat_template(chat, tokenize=False)
replies["tokens"] = AutoTokenizer.from_pretrained(merged)("barn").input_ids == tokenizer("barn").input_ids
print(json.dumps(replies))
"""


@pytest.mark.slow
def test_transformers_and_peft(fresh: Clients, laid: Laid) -> None:
    replies = fresh.python(MODELS, OWN, BASE, MERGED, GGUF, TAG)
    trained = load_file(laid.folder / "checkpoints/round-000120/adapter_model.safetensors")
    size = sum(float(np.abs(array).sum()) for name, array in trained.items() if "lora_B" in name)
    assert replies["adapter"] == pytest.approx(size, rel=1e-5)
    assert replies["moved"] > 0.1, "the adapter does nothing"
    assert replies["direct"] < 1e-5
    assert replies["best"] > 0.1, "another round is another adapter"
    assert replies["merged"] < 0.03 * replies["scale"]
    assert replies["gguf"] < 0.03 * replies["scale"]
    assert replies["config"] == "llama"
    assert replies["chat"] == "<|im_start|>user\n2+2?<|im_end|>\n"
    assert replies["tokens"]


DATASETS = """
import json, sys
from datasets import load_dataset

whole = load_dataset(sys.argv[1])
first = next(iter(load_dataset(sys.argv[1], split="train", streaming=True)))
print(json.dumps({"rows": {name: len(each) for name, each in whole.items()}, "first": first}))
"""


def test_datasets(fresh: Clients, laid: Laid) -> None:
    pytest.importorskip("datasets", reason="the extra `test` is not installed")
    replies = fresh.python(DATASETS, DATA)
    lines = (laid.folder / "data/train-00000.jsonl").read_text(encoding="utf-8").splitlines()
    assert replies["rows"] == {"train": len(lines)}
    assert replies["first"] == json.loads(lines[0])


SOURCES = """
import json, sys
from barnraise.contract.spec import DataSpec, SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.read import open_source, find_data

name, errors = sys.argv[1], []
opened = open_source(SourceSpec(source=f"hub:{name}", text_field="text"))
for source, revision in (("hub:no/body", None), (f"hub:{name}", "round-7")):
    try:
        find_data(DataSpec(source=source, revision=revision))
    except DatasetError as error:
        errors.append(error.problem)
rows = [(row.value, row.where) for row in opened.rows(Cutting())]
pinned = find_data(DataSpec(source=f"hub:{name}")).revision
print(json.dumps([rows, opened.report.taken.examples, [opened.spec.revision, pinned], errors]))
"""


def test_the_coordinator_reads_its_data(fresh: Clients, laid: Laid) -> None:
    said = fresh.run(sys.executable, "-c", SOURCES, DATA)
    rows, taken, (opened, pinned), problems = json.loads(said.splitlines()[-1])
    lines = (laid.folder / "data/train-00000.jsonl").read_text(encoding="utf-8").splitlines()
    assert [value for value, _ in rows] == [json.loads(line) for line in lines]
    assert rows[0][1] == f"hub:{DATA}/train-00000.jsonl:1"
    assert taken == ["train-00000.jsonl"]
    assert opened == pinned
    assert len(pinned) == 40
    assert "no dataset no/body" in problems[0]
    assert "no branch, tag or commit `round-7`" in problems[1]


@pytest.mark.parametrize("client", ["huggingface_hub", "curl"])
def test_clients_retry_after_a_429(
    laid: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    target = tmp_path / "card.md"
    refusals = [True]  # the first download is refused, later ones are not

    class CrowdedOnce(Places):
        def has_room(self, group: str, *, is_known: bool = False) -> bool:
            return not (refusals and refusals.pop()) and super().has_room(group, is_known=is_known)

    monkeypatch.setattr(app, "Places", CrowdedOnce)
    with served(laid.folder, replace(LIMITS, retry_after=1)) as url:
        clients = Clients(url, tmp_path / "home")
        if client == "curl":
            url = f"{url}/{OWN}/resolve/best/README.md"
            clients.run(program("curl"), "-sSf", "--retry", 1, "-o", target, url)
        else:
            clients.run(HF, "download", OWN, "README.md", "--revision", "best", "--local-dir", tmp_path)
            (tmp_path / "README.md").rename(target)
    assert refusals == []
    assert target.read_bytes() == (laid.folder / "checkpoints/round-000060/README.md").read_bytes()
