"""States of a session."""

from __future__ import annotations

import pytest

from stream.sessions.session import NEXT, SessionState
from tests.support.sessions import Sessions


async def test_only_legal_transitions_are_accepted() -> None:
    """The state of a session was spread over four flags in three objects, and some combinations
    had no meaning."""
    sessions = Sessions()
    for state in SessionState:
        for after in SessionState:
            session, _ = await sessions.open()
            session.state = state
            if after in NEXT[state]:
                session.become(after)
                assert session.state is after
            else:
                with pytest.raises(RuntimeError, match=f"{state.name} cannot become {after.name}"):
                    session.become(after)
                assert session.state is state
