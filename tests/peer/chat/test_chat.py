"""`peer chat`: answers equal those of transformers and peft."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from barnraise.contract.archive import folder_of
from barnraise.contract.manifest import MANIFEST, AveragedState
from barnraise.contract.spec import Lora
from barnraise.contract.tip import Position
from barnraise.core.errors import ModelUnavailable, UserError
from barnraise.core.ids import BlobHash, Round
from barnraise.core.plain_text import spelled
from barnraise.core.signed import sign
from barnraise.models.causal_lm import quiet
from barnraise.models.merge import merge
from barnraise.models.model_files import write_descriptions
from peer.chat.generator import ContextExceeded, Generator, SamplingParams, Side
from peer.chat.session import _title
from tests.models.test_merge import make_adapter
from tests.support import parts
from tests.support.archives import MAIN_ROUND, Laid, lay_out_run
from tests.support.coordinators import raises_with_fix
from tests.support.devices import CPU
from tests.support.gateways import environment, served
from tests.support.kinds import make_kind, modules_of
from tests.support.programs import DEADLINE, ROOT
from tests.support.tiny import make_tiny_model

GREEDY = SamplingParams(max_tokens=24, temperature=0.0, seed=0)
SAMPLED = SamplingParams(max_tokens=60, temperature=1.0, seed=3)
HELLO: list[dict[str, str]] = [{"role": "user", "content": "Hello there"}]


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    return lay_out_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def adapter(laid: Laid) -> Path:
    return laid.folder / folder_of("trained", MAIN_ROUND)


@pytest.fixture(scope="module")
def generator(laid: Laid, adapter: Path) -> Generator:
    return Generator(adapter, laid.base, CPU)


def by_transformers(folder: Path, adapter: Path | None, said: Sequence[dict[str, str]], count: int) -> str:
    """The `count` next tokens by greedy decoding."""
    with quiet(), torch.inference_mode():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        tokenizer = AutoTokenizer.from_pretrained(adapter or folder)
        ids = tokenizer.apply_chat_template(list(said), add_generation_prompt=True, return_tensors="pt")
        made = model.eval().generate(**ids, max_new_tokens=count, do_sample=False)
    return str(tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))


def answer(
    generator: Generator,
    side: Side,
    said: Sequence[dict[str, str]] = HELLO,
    sampling: SamplingParams = GREEDY,
) -> tuple[str, list[str]]:
    """The answer, and its pieces in order."""
    pieces: list[str] = []
    return generator.answer(side, said, sampling, pieces.append), pieces


def test_the_checkpoint_and_its_base_answer_as_peft_and_transformers_do(
    laid: Laid, adapter: Path, generator: Generator
) -> None:
    checkpoint, pieces = answer(generator, "checkpoint")
    base, _ = answer(generator, "base")
    assert checkpoint == by_transformers(laid.base, adapter, HELLO, 24)
    assert base == by_transformers(laid.base, None, HELLO, 24)
    assert checkpoint != base, "the adapter changes nothing"
    assert "".join(pieces) == checkpoint
    assert answer(generator, "checkpoint")[0] == checkpoint, "the base's answer disables the adapter"


def test_the_title_says_whether_a_checkpoint_is_a_mean(tmp_path: Path) -> None:
    states = tuple(AveragedState(round=round, state=parts.HASH_A) for round in (8, 9))
    state = parts.manifest(Position(Round(9), BlobHash(parts.HASH_A), height=9))
    for manifest, title in (
        (state, "barn, round 9"),
        (state.model_copy(update={"mean_of": states}), "barn, mean of states up to round 9"),
    ):
        (tmp_path / MANIFEST).write_bytes(sign(parts.AUTHORITY, manifest).wire)
        assert _title(tmp_path) == title


def test_the_base_is_loaded_once(generator: Generator) -> None:
    assert generator._models["base"] is generator._models["checkpoint"]


def test_both_sides_sample_with_the_same_seed(laid: Laid, tmp_path: Path) -> None:
    """With an adapter that changes nothing, as before the first round."""
    generator = Generator(laid.folder / folder_of("trained", 0), laid.base, CPU)
    first, again = (
        answer(generator, "base", sampling=SAMPLED),
        answer(generator, "checkpoint", sampling=SAMPLED),
    )
    assert first == again
    assert first != answer(generator, "base", sampling=SamplingParams(60, 1.0, seed=4)), (
        "the seed changes nothing"
    )
    assert first != answer(generator, "base", sampling=SamplingParams(60, 0.0, seed=3)), (
        "the temperature changes nothing"
    )


def test_a_whole_model_is_compared_with_a_separate_base(laid: Laid, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=5)
    generator = Generator(other, laid.base, CPU)
    assert answer(generator, "checkpoint")[0] == by_transformers(other, None, HELLO, 24)
    assert answer(generator, "base")[0] == by_transformers(laid.base, None, HELLO, 24)


@pytest.mark.parametrize("kind", ["gpt2", "gpt2, square"])
def test_an_adapter_of_gpt_2_answers_as_its_merged_model(tmp_path: Path, kind: str) -> None:
    base = make_kind(tmp_path / "base", kind)
    lora = Lora(rank=4, alpha=8.0, modules=modules_of(kind))
    changes = make_adapter(base, tmp_path / "adapter", lora=lora)
    write_descriptions([base], changes, with_config=False)
    merge(base, changes, tmp_path / "merged", "fp32")
    generator = Generator(changes, base, CPU)
    assert (
        answer(generator, "checkpoint")[0]
        == answer(Generator(tmp_path / "merged", None, CPU), "checkpoint")[0]
    )
    assert answer(generator, "checkpoint")[0] != answer(generator, "base")[0]


def test_the_model_s_end_token_ends_an_answer(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    whole = Generator(model, None, CPU)
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(answer(whole, "checkpoint", sampling=SAMPLED)[0]).input_ids
    place = next(n for n in range(5, len(ids)) if ids[n] not in ids[:n])
    (model / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [ids[place]]}), encoding="utf-8"
    )
    short, _ = answer(Generator(model, None, CPU), "checkpoint", sampling=SAMPLED)
    assert tokenizer(short).input_ids[:place] == ids[:place]
    assert len(tokenizer(short).input_ids) <= place + 1


def test_the_template_s_end_token_ends_an_answer(tmp_path: Path) -> None:
    """Also if it is not the model's end token: the base model is not trained on turns."""
    model = make_tiny_model(tmp_path / "model")
    for file in ("generation_config.json", "tokenizer_config.json"):
        config = json.loads((model / file).read_text(encoding="utf-8"))
        config |= {"eos_token_id": 0} if "generation" in file else {"eos_token": "<|pad|>"}
        (model / file).write_text(json.dumps(config), encoding="utf-8")
    assert Generator(model, None, CPU)._ends == {0, 2}
    (model / "chat_template.jinja").unlink()
    assert Generator(model, None, CPU)._ends == {0}


def test_without_a_template_the_text_is_continued(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    (model / "chat_template.jinja").unlink()
    generator = Generator(model, None, CPU)
    assert not generator.has_template
    with quiet(), torch.inference_mode():
        tokenizer = AutoTokenizer.from_pretrained(model)
        ids = tokenizer("Once", return_tensors="pt").input_ids
        made = AutoModelForCausalLM.from_pretrained(model).generate(ids, max_new_tokens=24, do_sample=False)
    wanted = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert answer(generator, "checkpoint", [{"role": "user", "content": "Once"}])[0] == wanted


def test_a_conversation_longer_than_the_context_is_an_error(generator: Generator) -> None:
    def said(tokens: int) -> list[dict[str, str]]:
        frame = generator._ids([{"role": "user", "content": ""}]).shape[1]
        return [{"role": "user", "content": "x" * (tokens - frame)}]

    with raises_with_fix(ContextExceeded, 2, "512 tokens", "context has 512", "/reset"):
        answer(generator, "checkpoint", said(512))
    _, pieces = answer(generator, "checkpoint", said(511))
    assert len(pieces) <= 1, "the context has space for one token"


def test_another_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the base model's"):
        Generator(adapter, make_tiny_model(tmp_path / "wide", width=32), CPU)


# Untrusted text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcödé 日本 🙂\n\ttext", None),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\rb\x08c\x9b31m", r"a\rb\x08c\x9b31m"),
        ("\u202ecod.exe\u2066", r"\u202ecod.exe\u2066"),
        ("👩\u200d🌾", None),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str | None) -> None:
    assert spelled(text) == (text if shown is None else shown)


# The program


def chat(*arguments: str, typed: str = "", cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--cache-dir", str(cache), "--device", "cpu", "--threads", "1"],
        cwd=ROOT, env=environment(), input=typed, capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip


COMMAND = [sys.executable, "-c", "from peer.cli.main import main; main()", "chat"]


def test_an_invite_is_enough_to_chat(laid: Laid, adapter: Path, tmp_path: Path) -> None:
    """The promoted checkpoint, and the base model from the run's archive."""
    with served(laid.folder) as url:
        done = chat(
            f"{url}/?key={parts.AUTHORITY.public}", "--prompt", "Hello there", "--compare",
            "--max-tokens", "24", cache=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    base, checkpoint = (
        by_transformers(laid.base, None, HELLO, 24),
        by_transformers(laid.base, adapter, HELLO, 24),
    )
    assert done.stdout == f"base model:\n{spelled(base)}\n\nbarn, round 120:\n{spelled(checkpoint)}\n"


def test_a_local_folder_is_loaded_as_it_is(laid: Laid, adapter: Path, tmp_path: Path) -> None:
    """Each line continues the conversation, until /reset. Control characters in answers are escaped."""
    done = chat(
        str(adapter), "--base", str(laid.base), "--temperature", "1", "--max-tokens", "100", cache=tmp_path,
        typed="Hello there\nHello there\n/reset\nHello there\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "new conversation" in done.stderr
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stdout)
    assert re.search(r"\\x[01][0-9a-f]", done.stdout), "the answer has no control characters to escape"
    generator, sampling = Generator(adapter, laid.base, CPU), SamplingParams(100, 1.0, seed=0)
    first, _ = answer(generator, "checkpoint", sampling=sampling)
    said = [*HELLO, {"role": "assistant", "content": first}, *HELLO]
    second, _ = answer(generator, "checkpoint", said, sampling)
    assert done.stdout == "".join(f"{spelled(each)}\n" for each in (first, second, first))
    assert first != second


def test_a_source_that_cannot_be_loaded_is_an_error(laid: Laid, adapter: Path, tmp_path: Path) -> None:
    refused = {
        str(laid.folder / folder_of("gguf", MAIN_ROUND)): (2, "which is for llama.cpp"),
        str(adapter): (ModelUnavailable.exit_code, "--base"),
    }
    for source, (status, words) in refused.items():
        done = chat(source, "--prompt", "Hello", cache=tmp_path)
        assert (done.returncode, done.stdout) == (status, ""), done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def _heed_ctrl_c() -> None:
    """As a shell does: a program that a script starts in the background inherits SIGINT as ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A program on a pseudo-terminal, 120 characters wide."""

    def __init__(self, *command: str) -> None:
        self._ours, theirs = pty.openpty()
        os.set_inheritable(theirs, True)
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=environment() | {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"},
            preexec_fn=_heed_ctrl_c,
        )  # fmt: skip
        os.close(theirs)
        self.output = ""

    def until(self, enough: Callable[[str], object]) -> None:
        """Read until the output matches or the program ends."""
        while not enough(self.output):
            assert select.select([self._ours], [], [], DEADLINE)[0], f"no more output than:\n{self.output}"
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # how Linux reports the end of a pseudo-terminal
                break
            self.output += piece.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        self.until(lambda _: False)
        os.close(self._ours)
        return self.process.wait(DEADLINE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_a_wide_terminal_shows_the_answers_in_columns(laid: Laid, adapter: Path, tmp_path: Path) -> None:
    terminal = Terminal(
        *COMMAND, str(adapter), "--base", str(laid.base), "--compare", "--max-tokens", "12",
        "--device", "cpu", "--threads", "1", "--cache-dir", str(tmp_path),
    )  # fmt: skip
    terminal.until(lambda output: "> " in output)
    terminal.type("Hello there\n")
    terminal.until(lambda output: output.count("> ") > 1)
    assert re.search(r"base model +barn, round 120", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.output))
    terminal.type("\x04")  # Ctrl-D
    assert terminal.end() == 0, terminal.output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_ctrl_c_interrupts_an_answer(laid: Laid, adapter: Path, tmp_path: Path) -> None:
    pieces: list[str] = []
    Generator(adapter, laid.base, CPU).answer(
        "checkpoint", HELLO, SamplingParams(400, 1.0, seed=3), pieces.append
    )
    assert len(pieces[0]) < 10, "the first words are shown long before the answer is complete"
    terminal = Terminal(
        *COMMAND, str(adapter), "--base", str(laid.base), "--temperature", "1", "--max-tokens", "400",
        "--seed", "3", "--device", "cpu", "--threads", "1", "--cache-dir", str(tmp_path),
    )  # fmt: skip
    terminal.until(lambda output: "> " in output)
    terminal.type("Hello there\n")
    terminal.until(lambda output: spelled(pieces[0]).strip() in output.partition("> Hello there")[2])
    os.killpg(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 130, terminal.output
    assert spelled(pieces[-1]).strip() not in terminal.output
    assert "Traceback" not in terminal.output
