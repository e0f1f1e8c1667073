"""Getting a checkpoint or a replayable run from an archive, and serving it on."""
