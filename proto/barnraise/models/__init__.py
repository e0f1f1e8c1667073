"""Base models, tensors, adapters, merging and GGUF files."""

import logging

# bitsandbytes, which peft imports, warns of kernels that it can do without. Child programs set no logging up,
# and the warning would be the last line of one that a signal ended.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
