"""State of one channel on the page over several sessions (JavaScript, run in Node)."""

from __future__ import annotations

import json

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run


def test_a_new_session_continues_the_utterances_and_positions_of_the_old_one() -> None:
    """Its utterances count from 0 again, so the page took them for those that it had."""
    module = json.dumps((WEB / "parts/channel.js").as_uri())
    found = run(f"""
      {FAKES}
      globalThis.navigator = {{ languages: ["en"] }};
      globalThis.localStorage = {{ getItem: () => null }};
      globalThis.document = {{ documentElement: {{}} }};
      const {{ Channel }} = await import({module});
      const channel = new Channel("speaker");
      const segment = (utterance, audio_start_ms, audio_end_ms) => channel.apply(
        {{ type: "emotion.segment", utterance, audio_start_ms, audio_end_ms, scores: {{}} }}, 0);
      segment(0, 1000, 2000);
      segment(1, 3000, 4000);
      channel.continueWithNewSession();
      segment(0, 500, 1500);
      channel.apply({{ type: "speech.start", audio_ms: 2000 }}, 0);
      channel.continueWithNewSession();
      segment(0, 100, 200);
      print(channel.utterances.map((u) => [u.utterance, u.audio_start_ms, u.audio_end_ms]));
    """)
    assert found == [[0, 1000, 2000], [1, 3000, 4000], [2, 4500, 5500], [3, 6100, 6200]]
