"""From a run.toml to a charter: advice, checks, the template."""
