"""Base models, tensors, adapters, merging and GGUF files."""

import logging
import os

# bitsandbytes, which peft imports, warns of kernels that it can do without. Child programs set no logging up,
# and the warning would be the last line of one that a signal ended.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# Kernels of the Hub are programs of others: transformers runs none, also where a config names them.
os.environ["USE_HUB_KERNELS"] = "NO"
