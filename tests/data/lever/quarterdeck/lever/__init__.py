"""A server for the tests: one lever, which may be looked at, and pulled with consent."""
