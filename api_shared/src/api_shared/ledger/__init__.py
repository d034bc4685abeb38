"""The ledger: the truth about every job."""
