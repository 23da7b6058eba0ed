"""The catalogue of agents: for now, the client that reads the catalogues of others."""
