"""A month of calls as a picture: calls, mean emotions and activation of each day.

EMOTIDE_API_KEY=… python examples/history_month.py http://127.0.0.1:8765 2026-11 november.png
"""

import json
import os
import sys
from calendar import monthrange
from urllib.request import Request, urlopen

import matplotlib

matplotlib.use("Agg")  # needs no screen
import matplotlib.pyplot as plt
import pandas as pd

server, month, out = sys.argv[1:]
last = monthrange(*map(int, month.split("-")))[1]
url = f"{server}/v1/history/summary?by=day&from={month}-01&to={month}-{last}"
key = {"Authorization": f"Bearer {os.environ.get('EMOTIDE_API_KEY', '')}"}
days = pd.DataFrame(json.load(urlopen(Request(url, headers=key)))["rows"]).set_index("key")
days = days.join(pd.DataFrame(days.pop("scores").tolist(), index=days.index))
labels = [name for name in ("angry", "fearful", "sad", "neutral", "happy") if name in days]
figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(10, 6))
days[["calls", "alerts"]].plot.bar(ax=above, title=f"Calls of {month}")
days[[*labels, "activation"]].plot(ax=below, ylim=(0, 1), marker="o", xlabel="", rot=90)
figure.savefig(out, dpi=120, bbox_inches="tight")
