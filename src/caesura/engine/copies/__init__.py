"""Host copies of paused contexts: planning them, and making them on the device."""
