"""The HTML page at a gateway's address: the run, its repositories, and commands to copy. Pure.

Plain HTML without scripts. All values from the archive are escaped.
"""

from __future__ import annotations

import html
from typing import Literal

from barnraise.contract.archive import MAIN, Repo
from barnraise.core.plain_text import one_line, printable
from barnraise.core.units import format_bytes
from barnraise.gateway.catalogue import Catalogue, find_file

SHOWN = 20
"""Newest revisions of each repository on the page."""
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
pre{background:#f4f4f4;padding:.8em;overflow-x:auto}table{border-collapse:collapse}
td,th{padding:.2em .8em;border-bottom:1px solid #ddd;text-align:left}.n{text-align:right}"""
_FORMS: dict[str, str] = {
    "trained": "what the volunteers train",
    "merged": "the adapter merged into its base model",
    "gguf": "for llama.cpp, Ollama and LM Studio",
    "base": "the base model",
    "data": "what the volunteers train on",
}


def escape(text: str, *, lines: bool = False) -> str:
    """Text that HTML shows as it is. lines: it may have several."""
    return html.escape(printable(text) if lines else one_line(text))


def page(catalogue: Catalogue, url: str) -> str:
    """url: the address of this server, without a trailing slash."""
    index = catalogue.index
    repos = [repo for kind in _KINDS for repo in catalogue.repos(kind)]
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(index.run)}</title>
<style>{STYLE}</style></head><body>
<h1>{escape(index.run)}</h1>
<p>Volunteers train this model together with Barnraise. Its checkpoints are here for the tools of the
Hugging Face Hub and for plain downloads. Rounds closed so far:
{index.closed}{_planned(catalogue)}.{_rehearsal(catalogue)}</p>
<p>Set these variables in a terminal. The second one keeps your Hub token from being sent here.</p>
<pre>export HF_ENDPOINT={escape(url)} HF_HUB_DISABLE_IMPLICIT_TOKEN=1</pre>
{"".join(_repo(catalogue, repo, url) for repo in repos) or "<p>There is no checkpoint yet.</p>"}
<h2>Trust</h2>
<p>Each revision has a <code>manifest.bin</code> that lists every file's SHA-256 and is signed by the run's
key; <code>manifest.json</code> has the same content in readable form. This server names the key
<code>{escape(index.authority)}</code>: compare it with the invite.
<code>peer verify</code> checks everything.</p>
<p><a href="/archive.json">archive.json</a> lists everything, for mirrors.</p>
</body></html>
"""


_KINDS: tuple[Literal["model", "dataset"], ...] = ("model", "dataset")


def _planned(catalogue: Catalogue) -> str:
    return "" if catalogue.planned is None else f"; planned: {catalogue.planned}"


def _rehearsal(catalogue: Catalogue) -> str:
    """A note about a run that no program is known to have trained a step of."""
    if catalogue.rehearsed or catalogue.index.closed:
        return ""
    return " The run is not rehearsed: the first volunteer tries one step before it trains."


def _repo(catalogue: Catalogue, repo: Repo, url: str) -> str:
    name, prefix = escape(repo.id), "datasets/" if repo.kind == "dataset" else ""
    rows = "".join(
        f"<tr><td>{escape(', '.join(revision.names))}</td><td><code>{escape(revision.commit)}</code></td>"
        f'<td class="n">{format_bytes(sum(e.size for e in catalogue.files[revision.manifest]))}</td>'
        f'<td><a href="/{prefix}{name}/resolve/{revision.commit}/README.md">card</a>'
        f' <a href="/{prefix}{name}/resolve/{revision.commit}/manifest.json">files</a></td></tr>\n'
        for revision in reversed(repo.revisions[-SHOWN:])
    )
    return f"""<h2>{name}</h2>
<p>{_FORMS[repo.form].capitalize()}.</p>
<table><tr><th>names</th><th>commit</th><th class="n">size</th><th></th></tr>
{rows}</table>
<pre>{escape(_use(catalogue, repo, url), lines=True)}</pre>
"""


def _use(catalogue: Catalogue, repo: Repo, url: str) -> str:
    newest = repo.revisions[-1]
    files = catalogue.files[newest.manifest]
    largest = max(files, key=lambda entry: entry.size).name
    if repo.kind == "dataset":
        return (
            f"hf download --repo-type dataset {repo.id}\n"
            f"python -c \"from datasets import load_dataset; print(load_dataset('{repo.id}'))\""
        )
    lines = [f"hf download {repo.id}"]
    tag = newest.tag if newest.tag in newest.names else MAIN
    if len(repo.revisions) > 1:
        lines.append(f"hf download {repo.id} --revision {tag}")
    if find_file(files, "config.json") or find_file(files, "adapter_config.json"):
        lines.append(
            'python -c "from transformers import AutoModelForCausalLM as A; '
            f"A.from_pretrained('{repo.id}', revision='{tag}')\""
        )
    lines.append(f"curl -C - -O {url}/{repo.id}/resolve/{tag}/{largest}")
    return "\n".join(lines)
