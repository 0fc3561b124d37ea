"""Progress of a startup that takes long."""

from __future__ import annotations

import logging

import pytest

from stream.telemetry.progress import StartProgress


def test_a_terminal_gets_a_bar_that_names_the_shape(capsys: pytest.CaptureFixture[str]) -> None:
    with StartProgress("large", terminal=True) as report:
        report.update("", 0, 0)
        assert capsys.readouterr().err == "", "a download draws its own bar meanwhile"
        report.update("32 x 3 s", 0, 18)
        report.update("16 x 3 s", 1, 18)
    drawn = capsys.readouterr().err
    assert "warming up" in drawn
    assert "1/18" in drawn
    assert "16 x 3 s" in drawn


def test_a_service_log_gets_a_line_every_few_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("stream.telemetry.progress.time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    with StartProgress("large", terminal=False) as report:
        for second in range(13):
            now[0] = 100.0 + second
            report.update("32 x 3 s", 2 if second > 5 else 0, 18 if second > 5 else 0)
    assert [record.message for record in caplog.records] == [
        "loading the model",
        "still loading the model",
        "warming up",
    ]
    assert vars(caplog.records[-1])["done"] == "2/18"
