"""The remediation agent: found, explained, approved, mended, verified."""
