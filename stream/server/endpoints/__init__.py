"""Endpoints: routes of the WebSocket paths and the TCP port, and the handlers behind them."""
