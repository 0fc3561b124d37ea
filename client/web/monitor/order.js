/** Compare streams: open alerts that are not acknowledged first, then attention, then age. */
export function byUrgency(a, b) {
  return (
    b.alerts.rank - a.alerts.rank ||
    b.attention.rank - a.attention.rank ||
    a.started - b.started ||
    (a.id < b.id ? -1 : 1)
  );
}

/** Return how many streams are live, have speech now, need attention, and have open alerts. */
export function counts(streams) {
  const live = streams.filter(({ state }) => state !== "ended");
  const number = (condition) => live.filter(condition).length;
  return {
    live: live.length,
    speaking: number(({ channels }) => [...channels.values()].some(({ speaking }) => speaking)),
    urgent: number(({ attention }) => attention.name === "high"),
    alerts: live.reduce((sum, { alerts }) => sum + alerts.open.length, 0),
  };
}
