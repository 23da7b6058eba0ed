"""An A2A agent is a card and a flow; this serves it."""
