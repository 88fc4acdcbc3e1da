"""Virtual time: the production scheduler with a modelled device."""
