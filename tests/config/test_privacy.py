"""Roles of employees, and the basis without which they are not analysed."""

from __future__ import annotations

import pytest

from stream.config_file import load
from tests.support.configuration import refused


@pytest.mark.parametrize("role", ["agent", "employee"])
def test_people_at_work_are_analysed_only_on_a_stated_basis(role: str) -> None:
    """EU AI Act, Art. 5(1)(f)."""
    overrides = {"privacy.analyse_roles": f'["customer", "{role}"]'}
    message = refused(overrides=overrides)
    assert f"analyse_roles names {role}" in message
    assert "privacy.employee_basis" in message
    for basis in ("medical_or_safety", "acted_recording"):
        assert basis in message
        assert load(environ={}, overrides={**overrides, "privacy.employee_basis": basis})


def test_roles_of_employees_can_be_configured() -> None:
    overrides = {"privacy.analyse_roles": '["nurse"]', "privacy.employee_roles": '["nurse"]'}
    assert "nurse" in refused(overrides=overrides)
