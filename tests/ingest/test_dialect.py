"""Promises that distinguish the dialects from each other."""

from __future__ import annotations

import pytest

from stream.ingest.asterisk import Asterisk
from stream.ingest.audiohook import AudioHook
from stream.ingest.audiosocket import AudioSocket
from stream.ingest.dialect import Dialect
from stream.ingest.emotide import Emotide
from stream.ingest.l16 import L16
from stream.ingest.speech_clients import SpeechClient
from stream.ingest.twilio import Twilio

FOREIGN = (Asterisk, AudioHook, AudioSocket, L16, SpeechClient, Twilio)


def test_only_clients_of_this_server_return_and_read_errors() -> None:
    """A foreign program has no token to resume with, and reports or plays what it does not know."""
    assert Emotide.resumes
    assert Emotide.answers
    for dialect in FOREIGN:
        assert not dialect.resumes, dialect
        assert not dialect.answers, dialect


@pytest.mark.parametrize("dialect", [Emotide, *FOREIGN])
def test_a_client_that_waits_for_answers_is_read_at_once(dialect: type[Dialect]) -> None:
    waits = dialect is SpeechClient
    assert (dialect.rest_s == 0) is waits
    assert 0 <= dialect.rest_s <= 0.2
