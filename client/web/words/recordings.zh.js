export default {
  "recordings.soon": "目前请在终端中分析文件：python -m client.replay FILE",
};
