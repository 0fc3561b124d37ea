export default {
  "recordings.soon": "Analyse files from a terminal for now: python -m client.replay FILE",
};
