"""Sessions whose tools the server runs: their routes, and what runs behind them."""
