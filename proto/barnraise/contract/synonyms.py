"""The names that other training tools give to settings of the run spec, for "did you mean ...?".

Sources: the arguments of transformers' Trainer, peft's LoraConfig, TRL, axolotl and open implementations of
DiLoCo.
"""

from __future__ import annotations

from barnraise.core.suggestions import Synonyms

SYNONYMS: Synonyms = {
    # Run, model and data
    "run_name": ("name",),
    "random_seed": ("seed",),
    "model_name_or_path": ("model.source",),
    "model_name": ("model.source",),
    "base_model": ("model.source",),
    "dataset": ("data.source",),
    "dataset_name": ("data.source",),
    "data_path": ("data.source",),
    "train_file": ("data.source",),
    "datasets": ("data.sources",),
    "dataset_mixer": ("data.sources",),
    "subset": ("data.config",),
    "dataset_config": ("data.config",),
    "dataset_config_name": ("data.config",),
    "dataset_split": ("data.split",),
    "sampling_weight": ("data.sources.weight",),
    "dataset_text_field": ("data.text_field",),
    "max_seq_length": ("data.sequence_length",),
    "max_length": ("data.sequence_length",),
    "block_size": ("data.sequence_length", "codec.block"),
    "seq_len": ("data.sequence_length",),
    "cutoff_len": ("data.sequence_length",),
    "val_set_size": ("data.held_out",),
    "test_size": ("data.held_out",),
    # Training
    "batch_size": ("train.batch",),
    "per_device_train_batch_size": ("train.batch",),
    "r": ("train.target.rank",),
    "lora_r": ("train.target.rank",),
    "lora_rank": ("train.target.rank",),
    "lora_alpha": ("train.target.alpha",),
    "target_modules": ("train.target.modules",),
    "optim": ("train.inner.optimizer", "outer.kind"),
    "learning_rate": ("train.inner.lr", "outer.lr"),
    "inner_lr": ("train.inner.lr",),
    "warmup": ("train.schedule.warmup_rounds", "train.inner.warmup_steps"),
    "max_rounds": ("train.schedule.rounds",),
    "total_rounds": ("train.schedule.rounds",),
    "max_tokens": ("train.schedule.tokens",),
    "lr_scheduler": ("train.schedule",),
    "lr_scheduler_type": ("train.schedule",),
    "num_warmup_steps": ("train.inner.warmup_steps",),
    "adam_beta1": ("train.inner.beta1", "outer.beta1"),
    "adam_beta2": ("train.inner.beta2", "outer.beta2"),
    "adam_epsilon": ("train.inner.eps", "outer.eps"),
    "max_grad_norm": ("train.inner.clip_norm",),
    "gradient_clipping": ("train.inner.clip_norm",),
    # Rounds, the outer step, compression, checkpoints
    "max_steps": ("round.steps",),
    "local_steps": ("round.steps",),
    "inner_steps": ("round.steps",),
    "outer_lr": ("outer.lr",),
    "outer_learning_rate": ("outer.lr",),
    "outer_momentum": ("outer.momentum",),
    "outer_optimizer": ("outer.kind",),
    "compression": ("codec.kind",),
    "save_steps": ("checkpoint.every",),
    "save_total_limit": ("checkpoint.keep",),
}
