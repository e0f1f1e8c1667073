"""docs/CONFIGURATION.md is what its sources generate, and lacks no setting."""

from __future__ import annotations

from barnraise.contract.spec import RunSpec
from barnraise.core.suggestions import setting_paths
from coordinator.setup.settings import tables_of
from scripts.configuration import COMMAND, PATH, configuration


def test_the_document_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == configuration(), (
        f"{PATH.name} differs from the docstrings and help texts. Run `{COMMAND}`."
    )


def test_every_setting_is_documented() -> None:
    """By a walk of the models, which knows nothing of the JSON schema that the tables come from."""
    tables = tables_of(RunSpec)
    documented = {
        f"{table.path}.{setting.name}".lstrip(".") for table in tables for setting in table.settings
    }
    documented |= {table.path for table in tables} | {f"{table.path}.kind" for table in tables if table.kind}
    assert set(setting_paths(RunSpec)) == documented - {""}


def test_every_setting_and_table_has_a_docstring() -> None:
    for table in tables_of(RunSpec):
        assert table.about, table.path
        for setting in table.settings:
            assert setting.summary.endswith((".", "`.")), f"{table.path}.{setting.name}"
