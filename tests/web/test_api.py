"""The key of the page's requests, on a scripted server (JavaScript, run in Node)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.server.http.static_files import WEB
from tests.web.fakes import FAKES, run

SERVER = """
globalThis.document = { baseURI: "http://emotide.test/" };
const stored = { "emotide.key": "old" };
globalThis.sessionStorage = {
  getItem: (name) => stored[name] ?? null,
  setItem: (name, value) => void (stored[name] = value),
  removeItem: (name) => void delete stored[name],
};
/** Requests that wait for an answer: `answer()` gives 401 unless the key is valid. */
const waiting = [];
globalThis.fetch = (path, { headers = {} } = {}) =>
  new Promise((resolve) => {
    const key = headers.Authorization ?? "";
    const status = path === "v1/info" || key === "Bearer new" ? 200 : 401;
    const answer = () => resolve({
      ok: status === 200,
      status,
      json: async () => ({ login: true, ticket: "t" }),
      headers: new Map(),
    });
    waiting.push({ path, key, answer });
  });
const prompts = [];
setKeyPrompt((rejected) => new Promise((resolve) => prompts.push({ rejected, resolve })));
"""


def api(script: str) -> Any:
    module = json.dumps((WEB / "api.js").as_uri())
    names = "request, server, setKeyPrompt"
    return run(f"import {{ {names} }} from {module};\n{FAKES}{SERVER}{script}")


@pytest.mark.parametrize("late", ['request("v1/streams")', 'server().open("v1/subscribe")'])
def test_a_late_refusal_of_the_old_key_does_not_delete_the_new_one(late: str) -> None:
    """Two requests with the old key got 401; the second deleted the key entered after the first."""
    found = api(f"""
      const first = request("v1/streams");
      const second = {late};
      await settle();
      while (waiting.some(({{ path }}) => path === "v1/info")) {{
        waiting.splice(waiting.findIndex(({{ path }}) => path === "v1/info"), 1)[0].answer();
        await settle();
      }}
      const [one, two] = waiting.splice(0);
      one.answer();
      await settle();
      prompts[0].resolve("new");
      await settle();
      two.answer();
      await settle();
      for (const request of waiting.splice(0)) request.answer();
      await settle();
      await Promise.all([first, second]);
      const {{ rejected }} = prompts[0];
      print({{ key: stored["emotide.key"], prompts: prompts.length, rejected }});
    """)
    assert found == {"key": "new", "prompts": 1, "rejected": True}


def test_refusals_at_the_same_time_share_one_dialog() -> None:
    found = api("""
      const all = [request("v1/streams"), request("v1/files/x"), request("v1/streams/y")];
      await settle();
      for (const request of waiting.splice(0)) request.answer();
      await settle();
      prompts[0].resolve("new");
      await settle();
      const keys = waiting.map(({ key }) => key);
      for (const request of waiting.splice(0)) request.answer();
      const statuses = (await Promise.all(all)).map(({ status }) => status);
      print({ keys, statuses, prompts: prompts.length, key: stored["emotide.key"] });
    """)
    assert found == {
        "keys": ["Bearer new"] * 3,
        "statuses": [200] * 3,
        "prompts": 1,
        "key": "new",
    }


def test_a_declined_dialog_fails_the_request() -> None:
    found = api("""
      const answer = request("v1/streams").catch((error) => error.constructor.name);
      await settle();
      waiting.splice(0)[0].answer();
      await settle();
      prompts[0].resolve(null);
      print({ failed: await answer, key: stored["emotide.key"] ?? null });
    """)
    assert found == {"failed": "NotSignedIn", "key": None}
