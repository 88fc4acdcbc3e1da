"""An innocent client beside attackers, on a real server: what it notices of them."""
