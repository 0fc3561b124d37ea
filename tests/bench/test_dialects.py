"""Calls of `bench.ingest --dialect`."""

from __future__ import annotations

from typing import get_args

from bench.dialects import CALLERS
from stream.config.telephony import TelephonyDialect


def test_every_dialect_is_measured() -> None:
    measured = {name.partition(",")[0] for name in CALLERS}
    assert measured == {*get_args(TelephonyDialect), "audiosocket"}
