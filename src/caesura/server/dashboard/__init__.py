"""What all sessions and the engine do: the overview, and the page that shows it."""
